"""One batch of the API from `validating` to its final status: its lines are sent, and its outputs become files.

What it has done is in the output alone: after a crash it goes on from the lines that are there. Once its status is
`finalizing`, nothing is sent any more, and every step may be repeated.
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
from serve_app.batch.run.job import Job, RunSummary
from serve_app.batch.run.journal import DiskFull, Journal, JournalError, OutputMismatch
from serve_app.batch.run.output import OutputTotals, refused, tally
from serve_app.batch.run.pace import Pace
from serve_app.batch.run.pooled import PoolClient
from serve_app.batch.run.requests import custom_id
from serve_app.batch.run.runner import run
from serve_app.batch.run.sender import RunStopped

OUTPUT_PURPOSE = "batch_output"
PROGRESS_S = 1.0
"""How often the counts clients see are brought up to date."""
AGAIN_S = 30.0
"""After this a batch goes on that stopped because the disk was full, or because nothing was answered."""
STUCK_S = 10.0
"""A batch that has waited so long for the disk or its engines says so to clients, and leaves its place to others."""
OUTPUTS = ("output.jsonl", "errors.jsonl")
"""Of a running batch, in its own folder."""

NO_ROOM = BatchError(
    code="disk_full", message="the service's disk has no room; it goes on by itself when there is some"
)
NO_ANSWER = BatchError(code="no_answer", message="the engines do not answer; it goes on by itself when they do")

logger = logging.getLogger("ray.serve")


class BatchExecution:
    """Takes one batch to its end, unless it is cancelled before."""

    def __init__(self, batch: Batch, store: Store, client: PoolClient, max_open: int, lines: Counter) -> None:
        """`client` is for this batch alone. `max_open` sequences of a model may be open; `lines` counts what is
        answered, by outcome."""
        self.summary = RunSummary()
        """What the current run has done; empty while there is none."""
        self.client = client
        self._batch = batch
        self._store = store
        self._max_open = max_open
        self._lines = lines
        self._before = OutputTotals()
        """What runs before the current one did."""
        self._failed = 0
        """Lines of the current run that `lines` has counted as failed."""
        self._cancelled = asyncio.Event()
        self._obstacle: BatchError | None = None
        """Why the last run stopped, until a line is answered."""
        self._stuck_since: float | None = None

    @property
    def stuck_s(self) -> float:
        """For how long more than STUCK_S it has waited for the disk or its engines; 0 where it goes on."""
        return max(0.0, time.monotonic() - self._stuck_since - STUCK_S) if self._stuck_since is not None else 0.0

    def store_was_full(self) -> None:
        """Count the batch as one that waits for the disk."""
        self._obstacle = NO_ROOM
        self._waits_for()

    def cancel(self) -> None:
        """End the batch soon, as cancelled, and keep what is answered."""
        self._cancelled.set()

    async def run(self) -> None:
        """Returns when the batch is final; may be called again after a crash at any moment.

        Raises StoreFull, DirectoryUnusable and OSError where its files or its row cannot be written.
        """
        error = None
        if self._batch.status not in ("finalizing", "cancelling"):
            error = await self._answer_lines()
        await self._finalize(error)

    async def fail(self, error: BatchError) -> None:
        """Make the batch final as failed, with those of its answers that can still be read."""
        try:
            await self._finalize(error)
        except (StoreFull, DirectoryUnusable):
            raise
        except Exception:
            logger.exception("%s cannot be finalized: what is answered stays in its folder", self._batch.id)
            await self._store.change(self._batch.id, lambda batch: failed(batch, error))

    async def _finalize(self, error: BatchError | None) -> None:
        """Give the batch its outputs as files, and its final status: `failed` with an error."""
        id = self._batch.id
        change = finalizing if error is None else lambda batch: failing(batch, error)
        self._batch = await self._store.change(id, change)
        paths = await asyncio.to_thread(self._move_outputs)
        totals = await asyncio.to_thread(tally, *paths)
        files = [file for path in paths if (file := self._output_file(path))]
        ids = output_ids(id)
        await self._store.finish(id, lambda batch: ended(batch, _counts(totals), _usage(totals), files, ids), files)

    async def _answer_lines(self) -> BatchError | None:
        """Returns when every line is answered, the batch is cancelled, or its completion window is over.

        An input that cannot be used at all is returned as an error.
        """
        reporting = asyncio.create_task(self._report())
        running = asyncio.create_task(self._keep_running())
        cancelled = asyncio.create_task(self._cancelled.wait())
        left_s = self._batch.expires_at - time.time()
        try:
            await asyncio.wait((running, cancelled), timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (running, cancelled, reporting):
                task.cancel()
            await asyncio.gather(running, cancelled, reporting, return_exceptions=True)
        if not running.cancelled():
            return running.result()
        if not self._cancelled.is_set():
            with contextlib.suppress(InputError):
                await asyncio.to_thread(self._expire)
        return None

    async def _keep_running(self) -> BatchError | None:
        """Run again after whatever may pass, until every line is answered. Raises OutputMismatch.

        An input that cannot be used at all is returned as an error.
        """
        job = self._job()
        while True:
            try:
                if await asyncio.to_thread(self._store.room) < -self._store.least_free // 2:
                    raise DiskFull("the disk of batch.directory has no room")
                self._before = await asyncio.to_thread(tally, job.output, job.errors)
                self._failed = 0
                self.summary = await run(job, self.client, self._pace, progress=self._note)
                return None
            except InputError as unusable:
                return BatchError(code=unusable.code, message=unusable.reason)
            except OutputMismatch:
                raise
            except (JournalError, NoRoomToScan, RunStopped, OSError) as reason:
                self.summary = RunSummary()
                self._obstacle = NO_ANSWER if isinstance(reason, RunStopped) else NO_ROOM
                logger.warning("%s waits %g s and goes on then: %s", self._batch.id, AGAIN_S, reason)
                await asyncio.sleep(AGAIN_S)

    def _pace(self, model: str | None) -> Pace:
        return Pace(most=self._max_open)

    def _job(self) -> Job:
        folder = self._store.work(self._batch)
        output, errors = (folder / name for name in OUTPUTS)
        input = self._store.path(self._batch.input_file_id)
        return Job(inputs=(input,), output=output, errors=errors, routes=(self._batch.endpoint,))

    def _note(self, summary: RunSummary) -> None:
        """A line was answered."""
        self.summary = summary
        self._obstacle = None
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
            waiting = self._waits_for()
            with contextlib.suppress(StoreFull, DirectoryUnusable):
                await self._store.change(self._batch.id, progress)

    def _waits_for(self) -> BatchError | None:
        """What clients are told that the batch waits for, once it has waited for STUCK_S."""
        stuck = self.client.stuck
        reason = self._obstacle or (
            BatchError(code="no_answer", message=f"{stuck}; it goes on by itself") if stuck else None
        )
        if reason is None:
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = time.monotonic()
        return reason if self.stuck_s else None

    def _expire(self) -> None:
        """Put every line that is not answered into the error file. Blocks; raises InputError."""
        job = self._job()
        text = "this request was not sent, or not answered, before the batch's completion window was over"
        with Journal(job.output, job.errors, scan(job.inputs)) as journal:
            for line in read(job.inputs):
                if not journal.done(line.index):
                    written = refused(journal.id(line.index), custom_id(line.data), "batch_expired", text, line)
                    journal.add(line.index, written.data, failed=True)

    def _move_outputs(self) -> list[Path]:
        """Move the output and the error file to where contents of files are, unless they are there. Blocks."""
        folder = self._store.work(self._batch)
        places = [self._store.path(id) for id in output_ids(self._batch.id)]
        for name, place in zip(OUTPUTS, places, strict=True):
            if (folder / name).exists():
                move(folder / name, place)
        return places

    def _output_file(self, contents: Path) -> File | None:
        """The API's object for an output or error file; None where nothing was written to it."""
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
            key=self._batch.key,
        )


def _counts(totals: OutputTotals) -> RequestCounts:
    return RequestCounts(totals.completed + totals.failed, totals.completed, totals.failed)


def _usage(totals: OutputTotals) -> BatchUsage:
    input, output = totals.prompt_tokens, totals.output_tokens
    return BatchUsage(input_tokens=input, output_tokens=output, total_tokens=input + output)
