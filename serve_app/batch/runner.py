"""A batch from its input to its output: reads, sends, writes, and goes on where an earlier run ended.

Only what it has open is in memory. A line that cannot work costs only itself; a service that is full or away costs
time; and whatever ends a run, the same call finishes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from serve_app.batch.client import Client
from serve_app.batch.journal import SYNC_S, Journal
from serve_app.batch.lines import ROUTES, BadLine, Raw, judge, read
from serve_app.batch.pace import Pace
from serve_app.batch.record import answered, refused
from serve_app.batch.scan import scan
from serve_app.batch.send import Sender
from serve_app.batch.threads import in_thread

PRIORITY = 10
"""vLLM's, of a batch's requests: a smaller one goes first, and requests without one have 0."""
LOOK_S = 1.0
"""How often a run that waits for room looks for it by itself."""
LINES_AT_ONCE = 1024
"""Answered lines passed over before others on the event loop have their turn."""


@dataclass(frozen=True)
class Job:
    """What to work through, and where the answers go."""

    inputs: tuple[Path, ...]
    """`.jsonl` or `.jsonl.gz`, read one after the other."""
    output: Path
    errors: Path
    """Takes what could not be answered, with the reason."""
    priority: int = PRIORITY
    """Given to requests that have none; 0 sends none."""
    models: frozenset[str] | None = None
    """Names that are served; None leaves it to the service to refuse others."""
    routes: tuple[str, ...] = ROUTES
    """What a line's `url` may be."""


@dataclass
class Summary:
    """Where a run stands, and in the end what it did."""

    total: int = 0
    """Lines of the input."""
    before: int = 0
    """Answered by earlier runs."""
    before_failed: int = 0
    """Of those, in the error file."""
    succeeded: int = 0
    """Answered by this run."""
    failed: int = 0
    """Written to the error file by this run."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    """Failed lines by kind."""
    open: int = 0
    """Requests open now."""
    retries: int = 0
    seconds: float = 0.0
    """Wall time so far."""

    @property
    def done(self) -> int:
        """Lines answered, by all runs."""
        return self.before + self.succeeded + self.failed

    @classmethod
    def of(cls, journal: Journal) -> Summary:
        """Of a run that begins."""
        return cls(total=journal.total, before=journal.succeeded + journal.failed, before_failed=journal.failed)


async def run(
    job: Job,
    client: Client,
    *,
    journal: Journal | None = None,
    pace: Pace | None = None,
    progress: Callable[[Summary], None] = lambda summary: None,
) -> Summary:
    """Answer every line that is not answered yet. `progress` is called after each, and must be quick.

    `journal` is the one of the job's files, where it is open already.

    Raises InputError and JournalError where nothing could be started, DiskFull and Stopped where it had to stop; cancel
    it to stop it. What was answered is kept in each case.
    """
    if journal is None:
        scanned = await asyncio.to_thread(scan, job.inputs)
        with contextlib.ExitStack() as stack:
            # Closed even if it is cancelled while it opens, which takes seconds where much is answered already.
            opened = await in_thread(lambda: stack.enter_context(Journal(job.output, job.errors, scanned)))
            return await run(job, client, journal=opened, pace=pace, progress=progress)
    async with Sender(client, pace or Pace()) as sender:
        running = _Run(job, sender, journal, progress)
        await running.all()
    return running.summary


class _Run:
    def __init__(self, job: Job, sender: Sender, journal: Journal, progress: Callable[[Summary], None]) -> None:
        self.summary = Summary.of(journal)
        self._job = job
        self._sender = sender
        self._journal = journal
        self._progress = progress
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._changed = asyncio.Event()
        self._over = asyncio.Event()
        self._began = time.monotonic()

    async def all(self) -> None:
        """Returns when every line is answered and on the disk."""
        syncing = asyncio.create_task(self._keep_synced())
        syncing.add_done_callback(self._ended)
        try:
            for raw in read(self._job.inputs):
                if raw.index % LINES_AT_ONCE == 0:
                    await asyncio.sleep(0)
                if not self._journal.done(raw.index):
                    await self._until(lambda: len(self._tasks) < self._sender.allowed)
                    self._start(raw)
            await self._until(lambda: not self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._over.set()
            await asyncio.gather(syncing, return_exceptions=True)
        if self._failure is not None:
            raise self._failure

    async def _keep_synced(self) -> None:
        """Every SYNC_S and once more at the end; in a thread, since a disk may be busy, or far away."""
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SYNC_S):
                    await self._over.wait()
            await in_thread(self._journal.sync)

    def _start(self, raw: Raw) -> None:
        task = asyncio.create_task(self._one(raw))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error
        self._changed.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Raises what ended one of the tasks."""
        while self._failure is None and not condition():
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._changed.wait()
        if self._failure is not None:
            raise self._failure

    async def _one(self, raw: Raw) -> None:
        try:
            line = judge(raw, self._job.models, self._job.priority, self._job.routes)
        except BadLine as bad:
            self._write(raw, refused(self._journal.id(raw.index), bad.custom_id, bad.code, str(bad), raw), bad.code)
            return
        answer = await self._sender.ask(line.url, bytes(line.body))
        record = answered(self._journal.id(raw.index), line.custom_id, answer, raw)
        self.summary.prompt_tokens += record.prompt_tokens
        self.summary.output_tokens += record.output_tokens
        self._write(raw, record.line, record.error)

    def _write(self, raw: Raw, line: bytes, error: str | None) -> None:
        self._journal.add(raw.index, line, failed=error is not None)
        summary = self.summary
        if error is None:
            summary.succeeded += 1
        else:
            summary.failed += 1
            summary.errors[error] = summary.errors.get(error, 0) + 1
        summary.open, summary.retries = self._sender.open, self._sender.retries
        summary.seconds = time.monotonic() - self._began
        self._progress(summary)
