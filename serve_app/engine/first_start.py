"""One engine compiles, the others wait for what it leaves in the cache: replicas that start at once on a new node.

The first of them holds a lock while it starts and leaves a mark when it has; with the mark nobody waits. A file lock
is released when its process ends, whatever ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

LONGEST_S = 300.0
"""Nobody waits for another's start for longer: it then compiles beside it."""
POLL_S = 0.2

logger = logging.getLogger("ray.serve")


@contextlib.asynccontextmanager
async def alone_if_first(cache: Path, facts: Any, longest_s: float = LONGEST_S) -> AsyncIterator[None]:
    """For the start of an engine: by itself where none of the same `facts` has been started with this cache.

    The facts are what decides what is compiled: model, arguments, GPU. A cache that cannot be locked or written, as in
    a read-only image, is taken for warm.
    """
    name = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    mark, lock = cache / "started" / name, cache / "started" / f"{name}.lock"
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        file = None if mark.exists() else lock.open("w")
    except OSError:
        file = None
    if file is None:
        yield
        return
    with file:
        await _locked(file.fileno(), mark, longest_s)
        yield
    with contextlib.suppress(OSError):
        mark.touch()


async def _locked(descriptor: int, mark: Path, longest_s: float) -> None:
    """Hold the lock, unless the mark is there, or the wait has been too long."""
    until = asyncio.get_running_loop().time() + longest_s
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        except OSError:
            return
        else:
            if mark.exists():
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            return
        if mark.exists() or asyncio.get_running_loop().time() > until:
            return
        if not told:
            told = True
            logger.info("process %d waits for another engine's first start, to find what it compiles", os.getpid())
        await asyncio.sleep(POLL_S)
