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
"""A batch that is stuck for longer gives its place to one that waits."""
EXPIRY_S = 3600.0
"""How often files whose time is over are deleted."""

logger = logging.getLogger("ray.serve")


class Worker:
    """Takes the batches of a store to their ends. One that it leaves unfinished goes on with the next worker."""

    def __init__(
        self,
        store: Store,
        client: Callable[[str | None], PoolClient],
        settings: schema.BatchConfig,
        lines: prometheus_client.Counter,
    ) -> None:
        """`client` makes a client for a batch of the key of this name; `lines` counts what is answered, by outcome."""
        self._store = store
        self._client = client
        self._settings = settings
        self._lines = lines
        self._executions: dict[str, BatchExecution] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._tries: Counter[str] = Counter()
        """How often a batch ended in a way that was not foreseen."""
        self._put_off: Counter[str] = Counter()
        """How often a batch was put off."""
        self._changed = asyncio.Event()
        self._files_expired_at = float("-inf")

    def changed(self) -> None:
        """To be called when a batch is new, or to be cancelled."""
        self._changed.set()

    def backlog(self) -> dict[str, int]:
        """Sequences beyond the open ones that would be sent if there were more room, by model.

        They are as many again as are open, since the pace doubles at most, and no more than are left, if the lines that
        are left ask for as many sequences and models as the open ones.
        """
        wanted: Counter[str] = Counter()
        for execution in self._executions.values():
            open, requests = sum(execution.client.open.values()), execution.client.requests
            left = (execution.summary.total - execution.summary.done - requests) * open / max(requests, 1)
            for model, count in execution.client.open.items():
                wanted[model] += round(count * min(max(left, 0), max(open, START)) / max(open, 1))
        return wanted

    async def run(self) -> None:
        """Runs until it is cancelled; raises DirectoryUnusable where the store can no longer be read."""
        try:
            while True:
                self._changed.clear()
                with contextlib.suppress(StoreFull):
                    await self._start_batches()
                try:
                    async with asyncio.timeout(LOOK_S):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _start_batches(self) -> None:
        """Look at the list: cancel what is to be cancelled, and start what has a place."""
        if time.monotonic() - self._files_expired_at > EXPIRY_S:
            self._files_expired_at = time.monotonic()
            await self._store.expire_files(time.time())
        self._store.reserve.take()
        unfinished = await self._store.unfinished()
        for batch in unfinished:
            if (execution := self._executions.get(batch.id)) is not None:
                if batch.status == "cancelling":
                    execution.cancel()
            elif _ending(batch):
                self._start(batch)
        waiting = [batch for batch in unfinished if batch.id not in self._executions]
        for batch in sorted(waiting, key=lambda batch: self._put_off[batch.id]):
            if self._has_place():
                self._start(batch)
            else:
                self._put_off_one()
                break

    def _has_place(self) -> bool:
        """Whether another batch may run: batches that are stuck do not count, up to `parallel_batches` of them."""
        moving = sum(not execution.stuck_s for execution in self._executions.values())
        places = self._settings.parallel_batches
        return moving < places and len(self._executions) < 2 * places

    def _put_off_one(self) -> None:
        """Let the batch that has been stuck the longest give its place to others, if that is over PUT_OFF_S."""
        id, execution = max(self._executions.items(), key=lambda item: item[1].stuck_s)
        if execution.stuck_s > PUT_OFF_S:
            self._put_off[id] += 1
            self._tasks[id].cancel()

    def _start(self, batch: Batch) -> None:
        self._executions[batch.id] = execution = BatchExecution(
            batch, self._store, self._client(batch.key), self._settings.max_open, self._lines
        )
        self._tasks[batch.id] = asyncio.create_task(self._execute(batch.id, execution))

    async def _execute(self, id: str, execution: BatchExecution) -> None:
        """Takes a batch as far as it comes; it leaves its place then, and has one again if it is unfinished."""
        try:
            await self._try(id, execution)
        except (StoreFull, DirectoryUnusable, OSError) as reason:
            logger.warning("%s goes on in %g s: %s", id, AGAIN_S, reason)
            execution.store_was_full()
            await asyncio.sleep(AGAIN_S)
        finally:
            del self._executions[id], self._tasks[id]
            self.changed()

    async def _try(self, id: str, execution: BatchExecution) -> None:
        """Takes a batch to its end, if only as failed, or counts a try.

        Raises StoreFull, DirectoryUnusable and OSError where its files or its row cannot be written.
        """
        try:
            await execution.run()
        except (StoreFull, DirectoryUnusable, OSError):
            raise
        except Exception as error:
            self._tries[id] += 1
            logger.exception("%s was interrupted (%d of %d tries)", id, self._tries[id], TRIES)
            if self._tries[id] < TRIES:
                await asyncio.sleep(AGAIN_S)
                return
            text = f"this batch failed {TRIES} times in a way that was not foreseen ({type(error).__name__})"
            await execution.fail(BatchError(code="internal_error", message=f"{text}; the service's log says more"))
        for counts in (self._tries, self._put_off):
            counts.pop(id, None)


def _ending(batch: Batch) -> bool:
    """Whether a batch needs no engine any more: nothing of it is to be sent."""
    return batch.status == "cancelling" or batch.expires_at <= time.time()
