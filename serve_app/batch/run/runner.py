"""A batch from its input to its output: reads, sends, writes, and goes on where an earlier run ended.

Only what it has open is in memory. A line that cannot work costs only itself; a service that is full or away costs
time, and one model of several costs the others none; and whatever ends a run, the same call finishes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serve_app.batch.run.client import Client
from serve_app.batch.run.journal import SYNC_S, Journal
from serve_app.batch.run.lines import ROUTES, BadLine, Raw, custom_id, judge, names, read
from serve_app.batch.run.pace import Pace
from serve_app.batch.run.record import Record, answered, refused
from serve_app.batch.run.scan import scan
from serve_app.batch.run.send import Sender, Stopped
from serve_app.batch.run.threads import in_thread

PRIORITY = 10
"""vLLM's, of a batch's requests: a smaller one goes first, and requests without one have 0."""
LOOK_S = 1.0
"""How often a run that waits for room looks for it by itself."""
BYTES_AT_ONCE = 2**18
"""Of lines passed over before others on the event loop have their turn."""
MOST_OPEN_BYTES = 256 * 2**20
"""Of a lane's lines that are open; a single longer one goes alone."""
MOST_LANES = 8
"""Models of a file with a pace of their own; each reads the file for itself. The rest share one."""


logger = logging.getLogger("ray.serve")


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
    """Sequences open now."""
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
    pace: Callable[[str | None], Pace] = lambda model: Pace(),
    journal: Journal | None = None,
    progress: Callable[[Summary], None] = lambda summary: None,
) -> Summary:
    """Answer every line that is not answered yet. `progress` is called after each, and must be quick.

    `pace` makes one for a model, or for all of them together; `journal` is the one of the job's files, where it is open
    already.

    Raises InputError, NoRoomToScan and JournalError where nothing could be started, DiskFull and Stopped where it had
    to stop; cancel it to stop it. What was answered is kept in each case.
    """
    if journal is None:
        scanned = await asyncio.to_thread(scan, job.inputs)
        with contextlib.ExitStack() as stack:
            # Closed even if it is cancelled while it opens, which takes seconds where much is answered already.
            opened = await in_thread(lambda: stack.enter_context(Journal(job.output, job.errors, scanned)))
            return await run(job, client, pace, opened, progress)
    async with contextlib.AsyncExitStack() as senders:
        lanes = []
        for model in _apart(job, journal):
            lanes.append(_Lane(model, await senders.enter_async_context(Sender(client, pace(model), model))))
        running = _Run(job, lanes, journal, progress)
        await running.all()
    return running.summary


def _apart(job: Job, journal: Journal) -> list[str | None]:
    """The models whose lines have a pace of their own; None stands for all other lines."""
    named = journal.models if job.models is None else journal.models & job.models
    served: list[str | None] = [*sorted(named)]
    return [None, *served[:MOST_LANES]] if len(served) > 1 else served or [None]


class _Lane:
    """The lines of one model, read and sent as if there were no others: they wait for no other model's engines."""

    def __init__(self, model: str | None, sender: Sender) -> None:
        self.model = model
        self.sender = sender
        self.tasks: set[asyncio.Task[None]] = set()
        self.open_bytes = 0
        self.stopped: Stopped | None = None
        """Why it could not go on."""

    def has_room(self) -> bool:
        """Whether another line may be opened."""
        return len(self.tasks) < self.sender.allowed and (self.open_bytes < MOST_OPEN_BYTES or not self.tasks)


class _Run:
    def __init__(self, job: Job, lanes: Sequence[_Lane], journal: Journal, progress: Callable[[Summary], None]) -> None:
        self.summary = Summary.of(journal)
        self._job = job
        self._lanes = lanes
        self._models = frozenset(lane.model for lane in lanes)
        self._journal = journal
        self._progress = progress
        self._failure: BaseException | None = None
        self._changed = asyncio.Event()
        self._over = asyncio.Event()
        self._began = time.monotonic()

    async def all(self) -> None:
        """Returns when every line is answered and on the disk."""
        syncing = asyncio.create_task(self._keep_synced())
        lanes = [asyncio.create_task(self._through(lane)) for lane in self._lanes]
        for task in (syncing, *lanes):
            task.add_done_callback(self._ended)
        try:
            await asyncio.wait(lanes, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in lanes:
                task.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
            self._over.set()
            await asyncio.gather(syncing, return_exceptions=True)
        for failure in (self._failure, *(lane.stopped for lane in self._lanes)):
            if failure is not None:
                raise failure

    async def _keep_synced(self) -> None:
        """Every SYNC_S and once more at the end; in a thread, since a disk may be busy, or far away."""
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SYNC_S):
                    await self._over.wait()
            await in_thread(self._journal.sync)

    async def _through(self, lane: _Lane) -> None:
        """Returns early when the lane has stopped, which leaves the others alone."""
        passed = 0
        try:
            for raw in read(self._job.inputs):
                passed += len(raw.data or b"")
                if passed > BYTES_AT_ONCE:
                    passed = 0
                    await asyncio.sleep(0)
                if not self._journal.done(raw.index) and self._is_of(raw, lane):
                    await self._until(lane, lane.has_room)
                    self._start(raw, lane)
            await self._until(lane, lambda: not lane.tasks)
        except Stopped:
            pass
        finally:
            for task in lane.tasks:
                task.cancel()
            await asyncio.gather(*lane.tasks, return_exceptions=True)

    def _is_of(self, raw: Raw, lane: _Lane) -> bool:
        if len(self._models) == 1:
            return True
        _, model = names(raw)
        return lane.model == (model if model in self._models else None)

    def _start(self, raw: Raw, lane: _Lane) -> None:
        lane.open_bytes += len(raw.data or b"")
        task = asyncio.create_task(self._one(raw, lane))
        lane.tasks.add(task)
        task.add_done_callback(lane.tasks.discard)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error
        self._changed.set()

    async def _until(self, lane: _Lane, condition: Callable[[], bool]) -> None:
        """Raises what ended one of the tasks."""
        while self._failure is None and lane.stopped is None and not condition():
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._changed.wait()
        if (reason := self._failure or lane.stopped) is not None:
            raise reason

    async def _one(self, raw: Raw, lane: _Lane) -> None:
        try:
            record = await self._record(raw, lane)
        except Stopped as reason:
            lane.stopped = reason
            return
        finally:
            lane.open_bytes -= len(raw.data or b"")
        self._write(raw, record)

    async def _record(self, raw: Raw, lane: _Lane) -> Record:
        """What to write of a line, whatever it does. Raises Stopped."""
        id = self._journal.id(raw.index)
        try:
            line = judge(raw, self._job.models, self._job.priority, self._job.routes)
            return answered(id, line.custom_id, await lane.sender.ask(line.url, bytes(line.body)), raw)
        except Stopped:
            raise
        except BadLine as bad:
            return Record(refused(id, bad.custom_id, bad.code, str(bad), raw), bad.code)
        except Exception as error:
            logger.warning("line %d of %s failed unexpectedly", raw.number, raw.file.name, exc_info=True)
            text = f"this line failed in a way that was not foreseen ({type(error).__name__}); the log says more"
            return Record(refused(id, custom_id(raw), "internal_error", text, raw), "internal_error")

    def _write(self, raw: Raw, record: Record) -> None:
        self._journal.add(raw.index, record.line, failed=record.error is not None)
        summary = self.summary
        summary.prompt_tokens += record.prompt_tokens
        summary.output_tokens += record.output_tokens
        if record.error is None:
            summary.succeeded += 1
        else:
            summary.failed += 1
            summary.errors[record.error] = summary.errors.get(record.error, 0) + 1
        summary.open = sum(lane.sender.open for lane in self._lanes)
        summary.retries = sum(lane.sender.retries for lane in self._lanes)
        summary.seconds = time.monotonic() - self._began
        self._progress(summary)
