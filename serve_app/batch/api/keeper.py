"""The batch directory, taken whenever it can be had."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from serve_app.batch.api.application import Gate, told
from serve_app.batch.api.store import DATABASE, Store
from serve_app.batch.api.trouble import Full, Taken, Unusable
from serve_app.config import schema

TAKEN_AGAIN_S = 1.0
UNUSABLE_AGAIN_S = 5.0
"""How often a directory that another service has, and one that cannot be used, are tried again."""

logger = logging.getLogger("ray.serve")


class Keeper:
    """Works on the directory while that can be used; otherwise the gate says why not, and nothing in it is touched."""

    def __init__(self, settings: schema.BatchConfig, gate: Gate, work: Callable[[Store], Awaitable[None]]) -> None:
        """`work` opens the gate and goes on until it is cancelled or raises Unusable."""
        self._settings = settings
        self._gate = gate
        self._work = work
        self._store: Store | None = None
        self._pause_s = 0.0

    async def open(self) -> None:
        """Try to take the directory."""
        before = self._gate.why_not
        least_free = int(self._settings.min_free_mib * 2**20)
        try:
            directory = Path(self._settings.directory).expanduser()
            self._store = await asyncio.to_thread(Store.open, directory, least_free)
            return
        except Taken as error:
            reason, self._pause_s = str(error), TAKEN_AGAIN_S
            told_why = "another service has the Batch API's directory; this one takes over when that is gone"
        except Unusable as error:
            reason, self._pause_s = str(error), UNUSABLE_AGAIN_S
            told_why = told(error)
        except Full as error:
            reason, self._pause_s = str(error), UNUSABLE_AGAIN_S
            told_why = "the disk of the Batch API is full: make room"
        self._gate.why_not = told_why
        if told_why != before:
            logger.error("the Batch API answers 503, and the rest of the service goes on: %s", reason)

    async def run(self) -> None:
        """Never returns."""
        while True:
            while self._store is None:
                before = self._database()
                await asyncio.sleep(self._pause_s)
                if self._database() == before:
                    await self.open()
            try:
                await self._work(self._store)
            except Unusable as error:
                logger.error("the Batch API stops: %s", error)
                self._gate.app, self._gate.why_not = None, told(error)
                self._pause_s = UNUSABLE_AGAIN_S
            await self.close()

    def _database(self) -> tuple[int, int] | None:
        """Changes while somebody copies another one over it, which is no moment to open it."""
        try:
            found = (Path(self._settings.directory).expanduser() / DATABASE).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    async def close(self) -> None:
        """Let the directory go."""
        store, self._store = self._store, None
        if store is not None:
            await store.close()
