"""One batch from `validating` to its end: what is done with its files, whatever interrupts it.

Its state is the output itself: a run that was killed goes on from the lines that are there. Once it is `finalizing`,
nothing is sent any more, and every step may be repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from pathlib import Path

from msgspec.structs import replace
from prometheus_client import Counter

from serve_app.batch.api.disk import DirectoryUnusable, StoreFull, move
from serve_app.batch.api.objects import (
    Batch,
    BatchError,
    BatchUsage,
    File,
    RequestCounts,
    Status,
    ended,
    failed,
    failing,
    finalizing,
)
from serve_app.batch.api.store import Store, output_ids
from serve_app.batch.run.input import InputError, NoRoomToScan, read, scan
from serve_app.batch.run.journal import DiskFull, Journal, JournalError, OutputMismatch
from serve_app.batch.run.output import OutputTotals, refused, tally
from serve_app.batch.run.pace import Pace
from serve_app.batch.run.pooled import PoolClient
from serve_app.batch.run.requests import custom_id
from serve_app.batch.run.runner import Job, RunSummary, run
from serve_app.batch.run.sender import Stopped

OUTPUT_PURPOSE = "batch_output"
PROGRESS_S = 1.0
"""How often the counts clients see are brought up to date."""
AGAIN_S = 30.0
"""After which a batch goes on that stopped for want of disk space or of any answer."""
STUCK_S = 10.0
"""After which a batch none of whose lines is answered says so, and leaves its place to others."""
OUTPUTS = ("output.jsonl", "errors.jsonl")

NO_ROOM = BatchError(
    code="disk_full", message="the service's disk has no room; it goes on by itself when there is some"
)
NO_ANSWER = BatchError(code="no_answer", message="the engines do not answer; it goes on by itself when they do")

logger = logging.getLogger("ray.serve")


class BatchExecution:
    """A batch at work."""

    def __init__(self, batch: Batch, store: Store, client: PoolClient, max_open: int, lines: Counter) -> None:
        self.summary = RunSummary()
        """Where the run stands."""
        self.client = client
        self._batch = batch
        self._store = store
        self._max_open = max_open
        self._lines = lines
        self._before = OutputTotals()
        """What earlier runs did."""
        self._failed = 0
        self._stopped = asyncio.Event()
        self._waits: BatchError | None = None
        self._stuck_since: float | None = None

    @property
    def stuck_s(self) -> float:
        """For how long it has waited for the disk or the engines, beyond STUCK_S; 0 where it gets on."""
        return max(0.0, time.monotonic() - self._stuck_since - STUCK_S) if self._stuck_since is not None else 0.0

    def waits_for_room(self) -> None:
        """The store could not take what was done."""
        self._waits = NO_ROOM
        self._look()

    def stop(self) -> None:
        """It is to be cancelled: end it soon, keeping what is answered."""
        self._stopped.set()

    async def to_its_end(self) -> None:
        """Returns when the batch is final; may be called again after a crash at any moment."""
        problem = None
        if self._batch.status not in ("finalizing", "cancelling"):
            problem = await self._run()
        await self._conclude(problem)

    async def give_up(self, problem: BatchError) -> None:
        """Make the batch final as failed, with what is answered as far as that can be had."""
        try:
            await self._conclude(problem)
        except (StoreFull, DirectoryUnusable):
            raise
        except Exception:
            logger.exception("%s cannot be finalized: what is answered stays in its folder", self._batch.id)
            await self._store.change(self._batch.id, lambda batch: failed(batch, problem))

    async def _conclude(self, problem: BatchError | None) -> None:
        id = self._batch.id
        change = finalizing if problem is None else lambda batch: failing(batch, problem)
        self._batch = await self._store.change(id, change)
        paths = await asyncio.to_thread(self._put_in_place)
        totals = await asyncio.to_thread(tally, *paths)
        files = [file for path in paths if (file := self._file(path))]
        ids = output_ids(id)
        await self._store.finish(id, lambda batch: ended(batch, _counts(totals), _usage(totals), files, ids), files)

    async def _run(self) -> BatchError | None:
        """Until every line is answered, it is cancelled or its time is over. What is wrong with the whole input."""
        reporting = asyncio.create_task(self._report())
        running = asyncio.create_task(self._keep_running())
        stopped = asyncio.create_task(self._stopped.wait())
        left_s = self._batch.expires_at - time.time()
        try:
            await asyncio.wait((running, stopped), timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (running, stopped, reporting):
                task.cancel()
            await asyncio.gather(running, stopped, reporting, return_exceptions=True)
        if not running.cancelled():
            return running.result()
        if not self._stopped.is_set():
            with contextlib.suppress(InputError):
                await asyncio.to_thread(self._expire)
        return None

    async def _keep_running(self) -> BatchError | None:
        job = self._job()
        while True:
            try:
                if await asyncio.to_thread(self._store.room) < -self._store.least_free // 2:
                    raise DiskFull("the disk of batch.directory has no room")
                self._before = await asyncio.to_thread(tally, job.output, job.errors)
                self._failed = 0
                self.summary = await run(job, self.client, self._pace, progress=self._see)
                return None
            except InputError as error:
                return BatchError(code=error.code, message=error.reason)
            except OutputMismatch:
                raise
            except (JournalError, NoRoomToScan, Stopped, OSError) as reason:
                self.summary = RunSummary()
                self._waits = NO_ANSWER if isinstance(reason, Stopped) else NO_ROOM
                logger.warning("%s waits %g s and goes on then: %s", self._batch.id, AGAIN_S, reason)
                await asyncio.sleep(AGAIN_S)

    def _pace(self, model: str | None) -> Pace:
        return Pace(most=self._max_open)

    def _job(self) -> Job:
        folder = self._store.work(self._batch)
        output, errors = (folder / name for name in OUTPUTS)
        input = self._store.path(self._batch.input_file_id)
        return Job(inputs=(input,), output=output, errors=errors, routes=(self._batch.endpoint,))

    def _see(self, summary: RunSummary) -> None:
        self.summary = summary
        self._waits = None
        self._lines.labels("failed" if summary.failed > self._failed else "done").inc()
        self._failed = summary.failed

    async def _report(self) -> None:
        """Keep the counts clients see up to date."""

        def progress(batch: Batch) -> Batch:
            summary, before = self.summary, self._before
            batch = replace(batch, waiting=waiting)
            if not summary.total:
                return batch
            counts = RequestCounts(summary.total, before.completed + summary.succeeded, before.failed + summary.failed)
            begun = batch.in_progress_at or int(time.time())
            status: Status = "in_progress" if batch.status == "validating" else batch.status
            return replace(batch, status=status, in_progress_at=begun, request_counts=counts)

        while True:
            await asyncio.sleep(PROGRESS_S)
            waiting = self._look()
            with contextlib.suppress(StoreFull, DirectoryUnusable):
                await self._store.change(self._batch.id, progress)

    def _look(self) -> BatchError | None:
        """What it waits for, once it has waited long enough."""
        stuck = self.client.stuck
        reason = self._waits or (
            BatchError(code="no_answer", message=f"{stuck}; it goes on by itself") if stuck else None
        )
        if reason is None:
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = time.monotonic()
        return reason if self.stuck_s else None

    def _expire(self) -> None:
        """Every line that is not answered goes to the error file. Blocks."""
        job = self._job()
        text = "this request was not sent, or not answered, before the batch's completion window was over"
        with Journal(job.output, job.errors, scan(job.inputs)) as journal:
            for line in read(job.inputs):
                if not journal.done(line.index):
                    written = refused(journal.id(line.index), custom_id(line.data), "batch_expired", text, line)
                    journal.add(line.index, written.data, failed=True)

    def _put_in_place(self) -> list[Path]:
        """Where the contents of the output and the error file are, now or already. Blocks."""
        folder = self._store.work(self._batch)
        places = [self._store.path(id) for id in output_ids(self._batch.id)]
        for name, place in zip(OUTPUTS, places, strict=True):
            if (folder / name).exists():
                move(folder / name, place)
        return places

    def _file(self, contents: Path) -> File | None:
        """The row of an output; None where nothing was written."""
        if not contents.exists() or not (size := contents.stat().st_size):
            contents.unlink(missing_ok=True)
            return None
        now, kept = int(time.time()), self._batch.output_expires_after
        return File(
            id=contents.name,
            bytes=size,
            created_at=now,
            filename=f"{self._batch.id}_{contents.name.rpartition('-')[2]}.jsonl",
            purpose=OUTPUT_PURPOSE,
            expires_at=now + kept.seconds if kept else None,
        )


def _counts(totals: OutputTotals) -> RequestCounts:
    return RequestCounts(totals.completed + totals.failed, totals.completed, totals.failed)


def _usage(totals: OutputTotals) -> BatchUsage:
    input, output = totals.prompt_tokens, totals.output_tokens
    return BatchUsage(input_tokens=input, output_tokens=output, total_tokens=input + output)
