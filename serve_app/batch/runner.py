"""A batch from its input to its output: reads, sends, writes, and goes on where an earlier run ended.

Only what it has open is in memory. A line that cannot work costs only itself; a service that is full or away costs
time; and whatever ends a run, the same call finishes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from serve_app.batch.client import Answer, Client, NoAnswer
from serve_app.batch.journal import Journal
from serve_app.batch.lines import ROUTES, BadLine, Raw, judge, read
from serve_app.batch.pace import Pace
from serve_app.batch.record import answered, refused
from serve_app.batch.scan import scan

PRIORITY = 10
"""vLLM's, of a batch's requests: a smaller one goes first, and requests without one have 0."""
LOOK_S = 1.0
"""How often the service is asked for its load."""
TRIES = 6
"""Of a line whose request fails in ways that may pass: 5xx, a broken connection."""
BACKOFF_FIRST_S = 0.5
BACKOFF_MOST_S = 30.0
PATIENCE_S = 600.0
"""How long the service may answer nothing at all before the run ends."""
BUSY = (429, 503)
FORBIDDEN = (401, 403)
TRANSIENT = (408, 409, 425, 500, 502, 504)


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


class Stopped(Exception):
    """The run cannot go on now; the text says why. The same call goes on where it stopped."""


async def run(
    job: Job,
    client: Client,
    *,
    pace: Pace | None = None,
    progress: Callable[[Summary], None] = lambda summary: None,
) -> Summary:
    """Answer every line that is not answered yet. `progress` is called after each, and must be quick.

    Raises InputError and JournalError where nothing could be started, DiskFull and Stopped where it had to stop; cancel
    it to stop it. What was answered is kept in each case.
    """
    scanned = await asyncio.to_thread(scan, job.inputs)
    with await asyncio.to_thread(Journal, job.output, job.errors, scanned) as journal:
        running = _Run(job, client, journal, pace or Pace(), progress)
        running.summary.total = scanned.lines
        running.summary.before = journal.succeeded + journal.failed
        await running.all()
        journal.sync()
        return running.summary


class _Run:
    def __init__(
        self, job: Job, client: Client, journal: Journal, pace: Pace, progress: Callable[[Summary], None]
    ) -> None:
        self.summary = Summary()
        self._job = job
        self._client = client
        self._journal = journal
        self._pace = pace
        self._progress = progress
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._changed = asyncio.Event()
        self._began = time.monotonic()
        self._last_answer = self._began

    async def all(self) -> None:
        looking = asyncio.create_task(self._look())
        try:
            for raw in read(self._job.inputs):
                if not self._journal.done(raw.index):
                    await self._until(lambda: len(self._tasks) < self._allowed())
                    self._start(raw)
            await self._until(lambda: not self._tasks)
        finally:
            for task in (looking, *self._tasks):
                task.cancel()
            await asyncio.gather(looking, *self._tasks, return_exceptions=True)

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
        """Raises what ended one of the tasks, or Stopped."""
        while True:
            if self._failure is not None:
                raise self._failure
            if condition():
                return
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.paused_s(time.monotonic()) or LOOK_S):
                    await self._changed.wait()
            if self._tasks and time.monotonic() - self._last_answer > PATIENCE_S:
                raise Stopped(f"the service has answered no request for {PATIENCE_S:g} s")

    def _allowed(self) -> int:
        return self._pace.allowed(time.monotonic())

    async def _one(self, raw: Raw) -> None:
        try:
            line = judge(raw, self._job.models, self._job.priority, self._job.routes)
        except BadLine as bad:
            self._write(raw, refused(self._journal.id(raw.index), bad.custom_id, bad.code, str(bad), raw), bad.code)
            return
        answer = await self._asked(line.url, bytes(line.body))
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
        summary.seconds = time.monotonic() - self._began
        self._progress(summary)

    async def _asked(self, url: str, body: bytes) -> Answer | NoAnswer:
        """The answer to keep: a success, a refusal for good, or the last of TRIES failures."""
        tries, backoff_s = 0, BACKOFF_FIRST_S
        while True:
            await self._until(lambda: self.summary.open < self._allowed())
            outcome = await self._sent(url, body)
            now = time.monotonic()
            pause_s = 0.0
            if isinstance(outcome, NoAnswer):
                tries += outcome.sent
                self._pace.refused(now, None)
            elif outcome.status in BUSY:
                tries += outcome.status == 503
                pause_s = outcome.retry_after_s or 0.0
                self._pace.refused(now, outcome.retry_after_s)
            else:
                self._last_answer = now
                if outcome.status in FORBIDDEN:
                    raise Stopped(f"the service refuses the API key ({outcome.status}): give another with --api-key")
                if outcome.status not in TRANSIENT:
                    self._pace.served(now, self.summary.open + 1)
                    return outcome
                tries += 1
            if tries >= TRIES:
                return outcome
            self.summary.retries += 1
            await asyncio.sleep(pause_s + random.uniform(0.5, 1.0) * backoff_s)
            backoff_s = min(BACKOFF_MOST_S, 2 * backoff_s)

    async def _sent(self, url: str, body: bytes) -> Answer | NoAnswer:
        self.summary.open += 1
        try:
            return await self._client.send(url, body)
        except NoAnswer as reason:
            return reason
        finally:
            self.summary.open -= 1
            self._changed.set()

    async def _look(self) -> None:
        while True:
            if (load := await self._client.load()) is not None:
                self._pace.seen(time.monotonic(), load)
                self._changed.set()
            await asyncio.sleep(LOOK_S)
