"""HAProxy is started again as soon as it dies.

Ray Serve 2.60 starts HAProxy once. When it dies, Serve's controller replaces the whole manager after three failed
health checks, 30 to 40 seconds in which nobody is served; before that, each reload fails. Here the manager waits for
the end of its process and starts the next one itself.

The manager is an actor of Serve's own, in a worker process of Ray's: `serve_app.compat.preload` gets there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from serve_app.compat.on_import import patch_on_import

TARGET = "ray.serve._private.haproxy"
ATTEMPTS = 5
PAUSE_S = 0.5
"""Between attempts; after the last the rest is Serve's."""

logger = logging.getLogger("ray.serve")


def patch(api: Any) -> None:
    """Make Serve's `HAProxyApi` restart what dies."""
    start: Callable[..., Awaitable[Any]] = api._start_and_wait_for_haproxy
    reload: Callable[[Any], Awaitable[None]] = api._graceful_reload
    stop: Callable[[Any], Awaitable[None]] = api.stop

    async def started(self: Any, *args: str, **options: Any) -> Any:
        process = await start(self, *args, **options)
        self._watching = asyncio.create_task(_restart(self, process))
        return process

    async def reloaded(self: Any) -> None:
        async with _changing(self):
            await reload(self)

    async def stopped(self: Any) -> None:
        self._stopping = True
        async with _changing(self):
            await stop(self)

    api._start_and_wait_for_haproxy = started
    api._graceful_reload = reloaded
    api.stop = stopped


def _changing(api: Any) -> asyncio.Lock:
    """Held while one process takes the place of another."""
    if not hasattr(api, "_changing"):
        api._changing = asyncio.Lock()
    return api._changing  # type: ignore[no-any-return]


async def _restart(api: Any, process: Any) -> None:
    """Wait for the end of `process`, and put another in its place unless there is one or none is wanted any more."""
    await process.wait()
    for attempt in range(ATTEMPTS):
        async with _changing(api):
            if api._proc is not process or getattr(api, "_stopping", False):
                return
            logger.warning("HAProxy (pid %d) ended with %s: starting it again", process.pid, process.returncode)
            try:
                api._generate_config_file_internal()
                api._old_procs.append(process)
                api._proc = await api._start_and_wait_for_haproxy()
                return
            except Exception:
                logger.exception("HAProxy did not start, attempt %d of %d", attempt + 1, ATTEMPTS)
        await asyncio.sleep(PAUSE_S)


def install() -> None:
    """Patch Serve's module, now or when it is imported."""
    patch_on_import(TARGET, lambda module: patch(module.HAProxyApi))
