"""The step model on the event loop's time: one timer for the whole engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence as Ordered

from serve_app.engine.meter import Meter
from serve_app.engine.simulation.batch import QueueFull, SimulatedBatch
from serve_app.engine.simulation.sequence import Sequence


class Generation:
    """The sequences of one request, and where its handler waits for them."""

    def __init__(self, driver: Driver, streamed: bool) -> None:
        self.sequences: list[Sequence] = []
        self.broken = False
        """The engine died under it."""
        self._driver = driver
        self._streamed = streamed
        self._news = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def ended(self) -> bool:
        return all(sequence.ended for sequence in self.sequences)

    @property
    def emitted(self) -> int:
        """Tokens so far, of all sequences."""
        return sum(sequence.emitted for sequence in self.sequences)

    async def progress(self) -> None:
        """Wait for a token if streamed, and in any case for the end of all sequences or of the engine."""
        if not self._news:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._news = False

    def cancel(self) -> None:
        """Free what it still holds, at once."""
        self._driver.cancel(self)

    def tell(self) -> None:
        """Wake the handler, if this is news to it."""
        if self._streamed or self.broken or self.ended:
            self._news = True
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)


class Driver:
    """Runs a batch on the monotonic clock; late timers catch up, so the offered rate does not drop."""

    def __init__(self, batch: SimulatedBatch) -> None:
        self.batch = batch
        self.dead: str | None = None
        """Why it is dead."""
        self.refusing = False
        """Answer 503 to every POST."""
        self.prompt_tokens = 0
        """Accepted since the start."""
        self.meter = Meter()
        self._now = 0.0
        self._emitted_before = 0
        self._open: set[Generation] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")

    @property
    def generation_tokens(self) -> int:
        """Emitted since the start."""
        return self._emitted_before + sum(generation.emitted for generation in self._open)

    def submit(self, sizes: Ordered[tuple[int, int, int]], *, streamed: bool, priority: int = 0) -> Generation:
        """Start a request of (prompt, output, cached) tokens each, all of them or none (QueueFull)."""
        if self.dead is not None:
            raise RuntimeError(self.dead)
        batch = self.batch
        self._advance()
        if batch.running + batch.waiting + len(sizes) > batch.max_running + batch.max_queued:
            raise QueueFull
        generation = Generation(self, streamed)
        now = self._now
        for prompt, output, cached in sizes:
            sequence = batch.submit(now, prompt, output, cached_tokens=cached, tag=generation, priority=priority)
            generation.sequences.append(sequence)
            self.prompt_tokens += prompt
        self._open.add(generation)
        self._arm()
        return generation

    def cancel(self, generation: Generation) -> None:
        """Free what a request still holds; whoever submits one calls this in the end, however it ended."""
        if generation not in self._open:
            return
        self._open.remove(generation)
        if not generation.ended:
            self._advance()
            for sequence in generation.sequences:
                self.batch.cancel(self._now, sequence)
            self._arm()
        self._emitted_before += generation.emitted
        generation.tell()

    async def stall(self, seconds: float) -> None:
        """Hold up everything between two steps for so long; returns when it is over."""
        self._advance()
        until = self.batch.stall(self._now, seconds)
        self._arm()
        await asyncio.sleep(until - self._now)

    def die(self, reason: str) -> None:
        """Stop for good: open requests break off, new ones are refused."""
        self.dead = reason
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for generation in list(self._open):
            generation.broken = True
            self.cancel(generation)

    def _advance(self) -> None:
        before, self._now = self._now, time.monotonic()
        heard = self.batch.step(self._now)
        if not heard:
            return
        for sequence in heard:
            sequence.tag.tell()
        firsts = [
            sequence.first_token_at - sequence.submitted_at
            for sequence in set(heard)
            if sequence.first_token_at is not None and sequence.first_token_at > before
        ]
        services = [sequence.service_s for sequence in heard if sequence.state == "finished"]
        self.meter.add(self._now, sum(1 for sequence in heard if sequence.emitted), firsts, services)

    def _arm(self) -> None:
        at = self.batch.next_at
        if at is None or self.dead is not None or at >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        delay = max(0.001, at - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._timer_at = float("inf")
        self._advance()
        self._arm()
