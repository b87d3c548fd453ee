"""Works through the batches of a store, some at a time, the oldest first."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable

import prometheus_client

from serve_app.batch.api.disk import DirectoryUnusable, StoreFull
from serve_app.batch.api.objects import Batch, BatchError
from serve_app.batch.api.store import Store
from serve_app.batch.execution import AGAIN_S, BatchExecution
from serve_app.batch.run.pace import START
from serve_app.batch.run.pooled import PoolClient
from serve_app.config import schema

LOOK_S = 30.0
"""How often the list is looked at unless something has changed."""
TRIES = 3
"""Of a batch that ends in a way that was not foreseen, until it is given up."""
PUT_OFF_S = 600.0
"""How long a batch may be stuck while others wait that have waited longer."""
EXPIRY_S = 3600.0
"""How often files whose time is over are deleted."""

logger = logging.getLogger("ray.serve")


class Worker:
    """Runs until it is cancelled; a batch it leaves unfinished goes on with the next worker of the store."""

    def __init__(
        self,
        store: Store,
        client: Callable[[], PoolClient],
        settings: schema.BatchConfig,
        lines: prometheus_client.Counter,
    ) -> None:
        """`client` makes a client for one batch; `lines` counts what is worked off, by outcome."""
        self._store = store
        self._client = client
        self._settings = settings
        self._lines = lines
        self._work: dict[str, BatchExecution] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._tries: Counter[str] = Counter()
        self._turns: Counter[str] = Counter()
        """How often a batch was put off."""
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
        """Never returns; raises DirectoryUnusable where the store can no longer be read."""
        try:
            while True:
                self._changed.clear()
                with contextlib.suppress(StoreFull):
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
        self._store.reserve.take()
        unfinished = await self._store.unfinished()
        for batch in unfinished:
            if (work := self._work.get(batch.id)) is not None:
                if batch.status == "cancelling":
                    work.stop()
            elif _ending(batch):
                self._start(batch)
        waiting = [batch for batch in unfinished if batch.id not in self._work]
        for batch in sorted(waiting, key=lambda batch: self._turns[batch.id]):
            if self._has_place():
                self._start(batch)
            else:
                self._put_off_one()
                break

    def _has_place(self) -> bool:
        """Batches that are stuck do not count, until there are as many of them again."""
        moving = sum(not work.stuck_s for work in self._work.values())
        places = self._settings.parallel_batches
        return moving < places and len(self._work) < 2 * places

    def _put_off_one(self) -> None:
        """Let the batch that has been stuck the longest wait for another turn, where it has been for long."""
        id, work = max(self._work.items(), key=lambda item: item[1].stuck_s)
        if work.stuck_s > PUT_OFF_S:
            self._turns[id] += 1
            self._tasks[id].cancel()

    def _start(self, batch: Batch) -> None:
        self._work[batch.id] = work = BatchExecution(
            batch, self._store, self._client(), self._settings.max_open, self._lines
        )
        self._tasks[batch.id] = asyncio.create_task(self._through(batch.id, work))

    async def _through(self, id: str, work: BatchExecution) -> None:
        try:
            await self._once(id, work)
        except (StoreFull, DirectoryUnusable, OSError) as reason:
            logger.warning("%s goes on in %g s: %s", id, AGAIN_S, reason)
            work.waits_for_room()
            await asyncio.sleep(AGAIN_S)
        finally:
            del self._work[id], self._tasks[id]
            self.changed()

    async def _once(self, id: str, work: BatchExecution) -> None:
        """To its end, or as far as it comes. Raises StoreFull, DirectoryUnusable, OSError."""
        try:
            await work.to_its_end()
        except (StoreFull, DirectoryUnusable, OSError):
            raise
        except Exception as error:
            self._tries[id] += 1
            logger.exception("%s was interrupted (%d of %d tries)", id, self._tries[id], TRIES)
            if self._tries[id] < TRIES:
                await asyncio.sleep(AGAIN_S)
                return
            text = f"this batch failed {TRIES} times in a way that was not foreseen ({type(error).__name__})"
            await work.give_up(BatchError(code="internal_error", message=f"{text}; the service's log says more"))
        for counts in (self._tries, self._turns):
            counts.pop(id, None)


def _ending(batch: Batch) -> bool:
    """It needs no engine any more."""
    return batch.status == "cancelling" or batch.expires_at <= time.time()
