"""How the processes of a service share a key's limits: through Ray's key-value store, in steps that all take together.

At the beginning of each step, on the wall clock, every process that has had requests writes what it has used so far. In
the middle of the step each reads what all have written, and divides what was left at its beginning. A process that is
late keeps the others at the step before: what was left is divided once. Nothing of this is on a request's way.

A process that ends leaves what it has written, so that one that starts knows of the minute and the day. Replicas write
the tokens that they make in the same way (`serve_app.replica.ledger`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from serve_app.accounts.key_limits import ProcessUse, TokenUse
from serve_app.accounts.limiter import Limiter
from serve_app.compat import kv_store
from serve_app.replica import ledger
from serve_app.replica.tally import DAY_S

PREFIX = "limits"
STEP_S = 0.5
GONE_AFTER = 6
"""Steps without a word from a process that had requests: it has ended."""
QUIET_AFTER = 4
"""Steps without a request, after which a process need not write."""
COMPLAIN_S = 60.0

logger = logging.getLogger("ray.serve")


class Sharing:
    """One process's part of it; `app` is the application's name."""

    def __init__(self, limiter: Limiter, app: str) -> None:
        self._limiter = limiter
        self._prefix = f"{PREFIX}/{app}/"
        self._key = self._prefix + uuid4().hex
        self._app = app
        self._written: dict[str, Any] = {}
        self._same = 0
        """Steps in which nothing has changed."""
        self._complained_at = -COMPLAIN_S

    async def start(self) -> None:
        """Learn of what was used before; to be awaited before the first request."""
        if self._limiter.limits:
            await self._learn(_step())

    async def follow(self) -> None:
        """Returns where no key has a limit, and otherwise never."""
        while self._limiter.limits:
            await asyncio.sleep(STEP_S - time.time() % STEP_S)
            step = _step()
            await self._tell(step)
            await asyncio.sleep(max(0.0, (step + 0.5) * STEP_S - time.time()))
            await self._learn(step)

    async def watch(self) -> None:
        """As `follow`, for a process that counts nothing of its own."""
        while self._limiter.limits:
            await asyncio.sleep(STEP_S)
            await self._learn(_step())

    async def _tell(self, step: int) -> None:
        keys = {name: _spelt(limits.tell()) for name, limits in self._limiter.limits.items()}
        self._same = self._same + 1 if keys == self._written and not self._open() else 0
        self._written = keys
        if self._same <= QUIET_AFTER:
            fact = {"step": step, "quiet": self._same == QUIET_AFTER, "keys": keys}
            await self._store(kv_store.write, self._key, fact)

    async def _learn(self, step: int) -> None:
        """What the others had used at the beginning of the step; and what replicas have made."""
        found = await self._store(_read, self._prefix, self._app)
        if found is None:
            # What was known goes on, and what this process uses from now on is divided anew.
            for limits in self._limiter.limits.values():
                limits.learn(None)
            return
        processes, tokens = found
        processes.pop(self._key, None)
        late = any(fact["step"] < step < fact["step"] + GONE_AFTER and not fact["quiet"] for fact in processes.values())
        for name, limits in self._limiter.limits.items():
            limits.made([one for fact in tokens.values() if (one := _tokens_of(fact, name))])
            if not late:
                limits.learn([_use_of(fact, name, step) for fact in processes.values() if name in fact["keys"]])

    def _open(self) -> bool:
        return any(limits.is_open for limits in self._limiter.limits.values())

    async def _store(self, use: Any, *args: Any) -> Any:
        """A call of the key-value store; None where it fails."""
        try:
            return await asyncio.to_thread(use, *args)
        except Exception as error:
            if time.monotonic() - self._complained_at > COMPLAIN_S:
                self._complained_at = time.monotonic()
                logger.warning("this process does not learn what others use of keys' limits: %r", error)
            return None


def _step() -> int:
    return int(time.time() // STEP_S)


def _read(processes: str, app: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What processes and replicas have written; what is of no day that counts is erased."""
    yesterday = int(time.time() // DAY_S) - 1
    used = kv_store.read_all(processes)
    for key in [key for key, fact in used.items() if fact["step"] * STEP_S < yesterday * DAY_S]:
        kv_store.erase(key)
        del used[key]
    return used, ledger.facts(app)


def _spelt(use: ProcessUse) -> list[Any]:
    return [use.requests, use.open, round(use.reserved)]


def _use_of(fact: Mapping[str, Any], name: str, step: int) -> ProcessUse:
    """What is open in a process that has ended is open no longer."""
    requests, open, reserved = fact["keys"][name]
    return ProcessUse(requests, open, reserved) if step - fact["step"] < GONE_AFTER else ProcessUse(requests)


def _tokens_of(fact: Mapping[str, Any], name: str) -> TokenUse | None:
    if (found := fact["keys"].get(name)) is None:
        return None
    requests, total = ledger.sums(found)
    return TokenUse(found["tally"], requests, total)
