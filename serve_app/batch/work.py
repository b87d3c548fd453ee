"""One batch from `validating` to its end: what is done with its files, whatever interrupts it.

Its state is the output itself: a run that was killed goes on from the lines that are there. Once it is `finalizing`,
nothing is sent any more, and every step may be repeated.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from msgspec.structs import replace
from prometheus_client import Counter

from serve_app.batch.journal import Journal, JournalError
from serve_app.batch.lines import InputError, custom_id, read
from serve_app.batch.objects import Batch, Counts, File, Problem, Problems, Status, Usage
from serve_app.batch.pace import Pace
from serve_app.batch.pooled import PoolClient
from serve_app.batch.record import refused
from serve_app.batch.runner import Job, Summary, run
from serve_app.batch.scan import scan
from serve_app.batch.send import Stopped
from serve_app.batch.store import Store, move, output_ids
from serve_app.batch.tally import tally

OUTPUT_PURPOSE = "batch_output"
PROGRESS_S = 1.0
"""How often the counts clients see are brought up to date."""
AGAIN_S = 30.0
"""After which a batch goes on that stopped for want of disk space or of any answer."""
OUTPUTS = ("output.jsonl", "errors.jsonl")

logger = logging.getLogger("ray.serve")


class Work:
    """A batch at work."""

    def __init__(self, batch: Batch, store: Store, client: PoolClient, max_open: int, lines: Counter) -> None:
        self.summary = Summary()
        """Where the run stands."""
        self.client = client
        self._batch = batch
        self._store = store
        self._max_open = max_open
        self._lines = lines
        self._before = Counts()
        """What earlier runs did."""
        self._failed = 0
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """It is to be cancelled: end it soon, keeping what is answered."""
        self._stopped.set()

    async def to_its_end(self) -> None:
        """Returns when the batch is final; may be called again after a crash at any moment."""
        if self._batch.status not in ("finalizing", "cancelling") and (problem := await self._run()):
            await self._store.finish(self._batch.id, lambda batch: _failed(batch, problem), [])
            return
        self._batch = await self._store.change(self._batch.id, _finalizing)
        paths = await asyncio.to_thread(self._put_in_place)
        counts, usage = await asyncio.to_thread(tally, *paths)
        files = [file for path in paths if (file := self._file(path))]
        await self._store.finish(self._batch.id, lambda batch: _ended(batch, counts, usage, files), files)

    async def _run(self) -> Problem | None:
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
            await asyncio.to_thread(self._expire)
        return None

    async def _keep_running(self) -> Problem | None:
        job = self._job()
        while True:
            self._before, _ = await asyncio.to_thread(tally, job.output, job.errors)
            self._failed = 0
            try:
                self.summary = await run(job, self.client, self._pace, progress=self._see)
                return None if self.summary.total else Problem(code="empty_file", message="the input has no lines")
            except InputError as error:
                return Problem(code="invalid_input", message=str(error))
            except (JournalError, Stopped) as reason:
                self.summary = Summary()
                logger.warning("%s waits %g s and goes on then: %s", self._batch.id, AGAIN_S, reason)
                await asyncio.sleep(AGAIN_S)

    def _pace(self, model: str | None) -> Pace:
        return Pace(most=self._max_open)

    def _job(self) -> Job:
        folder = self._store.work(self._batch)
        output, errors = (folder / name for name in OUTPUTS)
        input = self._store.path(self._batch.input_file_id)
        return Job(inputs=(input,), output=output, errors=errors, routes=(self._batch.endpoint,))

    def _see(self, summary: Summary) -> None:
        self.summary = summary
        self._lines.labels("failed" if summary.failed > self._failed else "done").inc()
        self._failed = summary.failed

    async def _report(self) -> None:
        """Keep the counts clients see up to date."""

        def progress(batch: Batch) -> Batch:
            summary, before = self.summary, self._before
            counts = Counts(summary.total, before.completed + summary.succeeded, before.failed + summary.failed)
            begun = batch.in_progress_at or int(time.time())
            status: Status = "in_progress" if batch.status == "validating" else batch.status
            return replace(batch, status=status, in_progress_at=begun, request_counts=counts)

        while True:
            await asyncio.sleep(PROGRESS_S)
            if self.summary.total:
                await self._store.change(self._batch.id, progress)

    def _expire(self) -> None:
        """Every line that is not answered goes to the error file. Blocks."""
        job = self._job()
        text = "this request was not sent, or not answered, before the batch's completion window was over"
        with Journal(job.output, job.errors, scan(job.inputs)) as journal:
            for raw in read(job.inputs):
                if not journal.done(raw.index):
                    line = refused(journal.id(raw.index), custom_id(raw), "batch_expired", text, raw)
                    journal.add(raw.index, line, failed=True)

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


def _failed(batch: Batch, problem: Problem) -> Batch:
    return replace(batch, status="failed", failed_at=int(time.time()), errors=Problems((problem,)))


def _finalizing(batch: Batch) -> Batch:
    """Nothing more is sent from here on; says also why, for whoever must go on after a crash."""
    if batch.status == "finalizing":
        return batch
    now = int(time.time())
    expired = now if now >= batch.expires_at and batch.status != "cancelling" else None
    begun = batch.in_progress_at or (None if expired or batch.status == "cancelling" else now)
    return replace(batch, status="finalizing", in_progress_at=begun, finalizing_at=now, expired_at=expired)


def _ended(batch: Batch, counts: Counts, usage: Usage, files: list[File]) -> Batch:
    now = int(time.time())
    ids = {file.id for file in files}
    output, error = (id if id in ids else None for id in output_ids(batch.id))
    batch = replace(
        batch,
        request_counts=replace(counts, total=max(batch.request_counts.total, counts.completed + counts.failed)),
        usage=usage,
        output_file_id=output,
        error_file_id=error,
    )
    if batch.cancelling_at is not None:
        return replace(batch, status="cancelled", cancelled_at=now)
    if batch.expired_at is not None:
        return replace(batch, status="expired")
    return replace(batch, status="completed", completed_at=now)
