"""A batch from its input to its output: reads, sends, writes, and goes on where an earlier run ended.

Only what it has open is in memory, and the positions of lines whose model is full. A line that cannot work costs only
itself; a service that is full or away costs time, and one model of several costs the others none; and whatever ends a
run, another call of `run` with this job finishes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from serve_app.batch.run.client import ServiceClient
from serve_app.batch.run.input import InputLine, read, scan
from serve_app.batch.run.job import Job, RunSummary
from serve_app.batch.run.journal import SYNC_S, Journal
from serve_app.batch.run.model_queue import ModelQueue
from serve_app.batch.run.output import OutputLine, answered, refused
from serve_app.batch.run.pace import Pace
from serve_app.batch.run.requests import BadLine, custom_id, names, parse
from serve_app.batch.run.sender import PacedSender, RunStopped

LOOK_S = 1.0
"""Seconds. How often a queue that may not send looks again whether it may."""
BYTES_AT_ONCE = 2**18
"""Of lines read before others on the event loop have their turn."""
MOST_QUEUES = 8
"""Models of a file with a queue and a pace of their own. The rest share one."""
MOST_BEHIND = 4_000_000
"""Lines in a model's backlog, 64 MB of memory: beyond it a model that is full holds up the others."""
T = TypeVar("T")

logger = logging.getLogger("ray.serve")


async def run(
    job: Job,
    client: ServiceClient,
    pace: Callable[[str | None], Pace] = lambda model: Pace(),
    journal: Journal | None = None,
    progress: Callable[[RunSummary], None] = lambda summary: None,
) -> RunSummary:
    """Answer every line that is not answered yet. `progress` is called after each, and must be quick.

    `pace` makes one for a model, or for all of them together; `journal` is the one of the job's files, where it is open
    already.

    Raises InputError, NoRoomToScan and JournalError where nothing could be started, DiskFull and RunStopped where it
    had to stop; cancel it to stop it. What was answered is kept in each case.
    """
    if journal is None:
        scanned = await asyncio.to_thread(scan, job.inputs)
        with contextlib.ExitStack() as stack:
            # Closed even if it is cancelled while it opens, which takes seconds where much is answered already.
            opened = await _in_thread(lambda: stack.enter_context(Journal(job.output, job.errors, scanned)))
            return await run(job, client, pace, opened, progress)
    async with contextlib.AsyncExitStack() as senders:
        queues = []
        for model, lines in _lines_by_queue(job, journal).items():
            sender = await senders.enter_async_context(PacedSender(client, pace(model), model))
            queues.append(ModelQueue(model, lines, sender))
        runner = _Runner(job, queues, journal, progress)
        await runner.run()
    return runner.summary


def _lines_by_queue(job: Job, journal: Journal) -> dict[str | None, int]:
    """The models whose lines have a queue of their own, with the number of these; None stands for all other lines."""
    served = sorted(journal.lines_of if job.models is None else journal.lines_of.keys() & job.models)
    if len(served) < 2:
        return {served[0] if served else None: journal.total}
    own: dict[str | None, int] = {model: journal.lines_of[model] for model in served[:MOST_QUEUES]}
    return {None: journal.total - sum(own.values()), **own}


class _Runner:
    """One reader for all queues, one task a queue for its backlog, one task for each line that is open."""

    def __init__(
        self, job: Job, queues: Sequence[ModelQueue], journal: Journal, progress: Callable[[RunSummary], None]
    ) -> None:
        self.summary = RunSummary.of(journal)
        self._job = job
        self._queues = {queue.model: queue for queue in queues}
        self._journal = journal
        self._progress = progress
        self._failure: BaseException | None = None
        """What ends the run."""
        self._all_read = False
        self._read_bytes = 0
        self._may_read = asyncio.Event()
        """Set when a queue may want another line."""
        self._over = asyncio.Event()
        self._began = time.monotonic()

    async def run(self) -> None:
        """Returns when every line is answered and on the disk. Raises what `run` raises once it has begun."""
        syncing = asyncio.create_task(self._keep_synced())
        sending = [asyncio.create_task(self._send_backlog(queue)) for queue in self._queues.values()]
        working = [asyncio.create_task(self._read()), *sending]
        looking = asyncio.create_task(self._keep_looking())
        for task in (syncing, *working):
            task.add_done_callback(self._ended)
        try:
            await asyncio.wait(working, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in (looking, *working):
                task.cancel()
            await asyncio.gather(looking, *working, return_exceptions=True)
            self._over.set()
            await asyncio.gather(syncing, return_exceptions=True)
        for failure in (self._failure, *(queue.stopped for queue in self._queues.values())):
            if failure is not None:
                raise failure

    async def _keep_synced(self) -> None:
        """Every SYNC_S and once more at the end; in a thread, since a disk may be busy, or far away."""
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SYNC_S):
                    await self._over.wait()
            await _in_thread(self._journal.sync)

    async def _read(self) -> None:
        """Go through the input once, no faster than the models together can have its lines.

        A line whose model has room is sent. Otherwise it joins its model's backlog where another model has room, and
        the reader waits where none has.
        """
        for line in read(self._job.inputs):
            await self._let_others_run(line)
            queue = self._queue_of(line)
            queue.unread -= 1
            if self._journal.done(line.index):
                continue
            if not (sendable := queue.takes_next):
                await self._until(self._may_read, functools.partial(self._may_go_on, queue))
                sendable = queue.takes_next
            if sendable:
                self._start(line, queue)
            elif queue.stopped is None:
                queue.backlog.append(line)
                queue.changed.set()
            elif all(one.stopped or not one.unread for one in self._queues.values()):
                break
        self._all_read = True

    async def _let_others_run(self, line: InputLine) -> None:
        """Give the event loop to others once BYTES_AT_ONCE have been read since the last time."""
        self._read_bytes += len(line.data or b"")
        if self._read_bytes > BYTES_AT_ONCE:
            self._read_bytes = 0
            await asyncio.sleep(0)

    def _may_go_on(self, queue: ModelQueue) -> bool:
        """Whether the reader may leave a line of this queue, in its backlog if it cannot be sent at once."""
        if queue.stopped is not None or queue.takes_next:
            return True
        return len(queue.backlog) < MOST_BEHIND and any(one.waits_for_reader for one in self._queues.values())

    def _queue_of(self, line: InputLine) -> ModelQueue:
        if len(self._queues) == 1:
            return next(iter(self._queues.values()))
        _, model = names(line.data)
        return self._queues.get(model) or self._queues[None]

    async def _send_backlog(self, queue: ModelQueue) -> None:
        """Send what is in the queue's backlog when there is room; returns when its last line is answered.

        It returns early when the queue has stopped, which leaves the others alone.
        """

        def ready() -> bool:
            return queue.has_room if queue.backlog else self._all_read and not queue.tasks

        try:
            while True:
                await self._until(queue.changed, lambda: queue.stopped is not None or ready())
                if queue.stopped is not None or not queue.backlog:
                    return
                line = await queue.backlog.first()
                self._start(line, queue)
                queue.backlog.drop_first()
                if not queue.backlog:
                    self._may_read.set()
                await self._let_others_run(line)
        finally:
            queue.backlog.close()
            for task in queue.tasks:
                task.cancel()
            await asyncio.gather(*queue.tasks, return_exceptions=True)

    def _start(self, line: InputLine, queue: ModelQueue) -> None:
        queue.open_bytes += len(line.data or b"")
        task = asyncio.create_task(self._one(line, queue))
        queue.tasks.add(task)
        task.add_done_callback(functools.partial(self._line_ended, queue))

    def _line_ended(self, queue: ModelQueue, task: asyncio.Task[None]) -> None:
        queue.tasks.discard(task)
        if queue.backlog or queue.stopped or self._all_read:
            queue.changed.set()
        self._may_read.set()
        if not task.cancelled() and task.exception() is not None:
            self._ended(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Of any task: its failure is the run's, and ends all others."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error
        self._look_again()

    def _look_again(self) -> None:
        for event in (self._may_read, *(queue.changed for queue in self._queues.values())):
            event.set()

    async def _keep_looking(self) -> None:
        """Every LOOK_S, since a pace may allow more as time passes."""
        while True:
            await asyncio.sleep(LOOK_S)
            self._look_again()

    async def _until(self, changed: asyncio.Event, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds, which is looked at whenever `changed` is set. Raises what ended the run."""
        while self._failure is None and not condition():
            changed.clear()
            await changed.wait()
        if self._failure is not None:
            raise self._failure

    async def _one(self, line: InputLine, queue: ModelQueue) -> None:
        try:
            written = await self._answer(line, queue)
        except RunStopped as reason:
            queue.stopped = reason
            return
        finally:
            queue.open_bytes -= len(line.data or b"")
        self._write(line, written)

    async def _answer(self, line: InputLine, queue: ModelQueue) -> OutputLine:
        """What to write of a line, whatever it does. Raises RunStopped."""
        id = self._journal.id(line.index)
        try:
            request = parse(line.data, self._job.models, self._job.priority, self._job.routes)
            response = await queue.sender.ask(request.url, bytes(request.body))
            return answered(id, request.custom_id, response, line)
        except RunStopped:
            raise
        except BadLine as bad:
            return refused(id, bad.custom_id, bad.code, str(bad), line)
        except Exception as error:
            logger.warning("line %d of %s failed unexpectedly", line.number, line.file.name, exc_info=True)
            text = f"this line failed in a way that was not foreseen ({type(error).__name__}); the log says more"
            return refused(id, custom_id(line.data), "internal_error", text, line)

    def _write(self, line: InputLine, written: OutputLine) -> None:
        self._journal.add(line.index, written.data, failed=written.error is not None)
        summary = self.summary
        summary.prompt_tokens += written.prompt_tokens
        summary.output_tokens += written.output_tokens
        if written.error is None:
            summary.succeeded += 1
        else:
            summary.failed += 1
            summary.errors[written.error] = summary.errors.get(written.error, 0) + 1
        summary.open = sum(queue.sender.open for queue in self._queues.values())
        summary.retries = sum(queue.sender.retries for queue in self._queues.values())
        summary.seconds = time.monotonic() - self._began
        self._progress(summary)


async def _in_thread(function: Callable[[], T]) -> T:
    """As `asyncio.to_thread`, but cancelled no sooner than the thread is done: what it uses may be closed then."""
    work = asyncio.ensure_future(asyncio.to_thread(function))
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait((work,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from work.exception()
    return work.result()
