"""Works through the batches of a store, some at a time, the oldest first."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable

import prometheus_client

from serve_app import config
from serve_app.batch.objects import Batch
from serve_app.batch.pace import START
from serve_app.batch.pooled import PoolClient
from serve_app.batch.store import Store
from serve_app.batch.work import AGAIN_S, Work

LOOK_S = 30.0
"""How often the list is looked at unless something has changed."""
EXPIRY_S = 3600.0
"""How often files whose time is over are deleted."""

logger = logging.getLogger("ray.serve")


class Worker:
    """Runs until it is cancelled; a batch it leaves unfinished goes on with the next worker of the store."""

    def __init__(
        self, store: Store, client: Callable[[], PoolClient], settings: config.Batch, lines: prometheus_client.Counter
    ) -> None:
        """`client` makes a client for one batch; `lines` counts what is worked off, by outcome."""
        self._store = store
        self._client = client
        self._settings = settings
        self._lines = lines
        self._work: dict[str, Work] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._files_expired_at = float("-inf")

    def changed(self) -> None:
        """A batch is new, or to be cancelled."""
        self._changed.set()

    def backlog(self) -> dict[str, int]:
        """Sequences beyond the open ones that would be sent if there were room, by model: as many again as are open, as
        the pace would at most, and no more than are left, if the lines that are left are like those."""
        wanted: Counter[str] = Counter()
        for work in self._work.values():
            open, requests = sum(work.client.open.values()), work.client.requests
            left = (work.summary.total - work.summary.done - requests) * open / max(requests, 1)
            for model, count in work.client.open.items():
                wanted[model] += round(count * min(max(left, 0), max(open, START)) / max(open, 1))
        return wanted

    async def run(self) -> None:
        """Never returns."""
        try:
            while True:
                self._changed.clear()
                await self._look()
                try:
                    async with asyncio.timeout(LOOK_S):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _look(self) -> None:
        if time.monotonic() - self._files_expired_at > EXPIRY_S:
            self._files_expired_at = time.monotonic()
            await self._store.expire_files(time.time())
        for batch in await self._store.unfinished():
            if (work := self._work.get(batch.id)) is not None:
                if batch.status == "cancelling":
                    work.stop()
            elif len(self._work) < self._settings.parallel_batches or _ending(batch):
                self._start(batch)

    def _start(self, batch: Batch) -> None:
        self._work[batch.id] = work = Work(batch, self._store, self._client(), self._settings.max_open, self._lines)
        self._tasks[batch.id] = asyncio.create_task(self._through(batch.id, work))

    async def _through(self, id: str, work: Work) -> None:
        try:
            await work.to_its_end()
        except Exception:
            logger.exception("%s was interrupted, and goes on in %g s", id, AGAIN_S)
            await asyncio.sleep(AGAIN_S)
        finally:
            del self._work[id], self._tasks[id]
            self.changed()


def _ending(batch: Batch) -> bool:
    """It needs no engine any more."""
    return batch.status == "cancelling" or batch.expires_at <= time.time()
