"""Continuous batching in virtual time: which sequence gets a token when.

The model, deliberately small:
- A sequence waits, by priority and then first in first out, until one of `max_running` places is free and its prompt
  and its whole output fit in what the KV cache has unreserved. Then it is prefilled, one sequence at a time, at
  `prefill_tokens_per_s`. Prefill delays that sequence and those behind it, not the ones being decoded.
- A decoding step of n sequences takes `step_base_ms + step_per_sequence_ms * (n - 1)` and gives each of them one
  token. Whoever was prefilled during a step joins the next; with nothing to decode, one starts at once.
- With `prefill_chunk_tokens`, as in vLLM, prefill has no time of its own: a step carries up to so many tokens, one of
  each decoded sequence and the rest from prompts, whose time at `prefill_tokens_per_s` is added to the step. The step
  with the last of a prompt gives its first token.
- A stall, as of an adapter that is loaded, comes between two steps: it delays everyone alike.
- Steps follow each other without a gap, whenever they are asked for: a late caller gets all that was due.

Steps between which nobody joins or ends differ in nothing, so they are counted, not walked through: `leap` takes any
number of them at once. Nothing here reads a clock. Times are seconds on the caller's clock, and never decrease.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, Literal

from serve_app.config.schema import Simulated
from serve_app.engine.simulation.sequence import Sequence


class QueueFull(Exception):
    """Running and waiting sequences already fill the replica."""


@dataclass(slots=True, eq=False)
class SimulatedBatch:
    """One replica's sequences."""

    timing: Simulated
    max_running: int
    max_queued: int
    slowdown: float = 1.0
    """Multiplies the duration of every step and prefill that starts from now on."""
    steps: int = 0
    """Decoding steps so far."""
    tokens: int = 0
    """Emitted so far, by all sequences."""
    _waiting: deque[Sequence] = field(default_factory=deque)
    _prefilling: deque[Sequence] = field(default_factory=deque)
    _joining: list[Sequence] = field(default_factory=list)
    _decoding: dict[Sequence, None] = field(default_factory=dict)
    _untold: list[Sequence] = field(default_factory=list)
    """Of those decoded, who has no token yet."""
    _embedding: list[Sequence] = field(default_factory=list)
    """Who ends with the present step, of those that are only prefilled."""
    _last_steps: list[tuple[int, int, Sequence]] = field(default_factory=list)
    """A heap: the step that ends a sequence; those cancelled meanwhile are skipped."""
    _joined: int = 0
    _prefill_ends: float | None = None
    _step_ends: float | None = None
    _step_s: float = 0.0
    _stalled_until: float = 0.0
    _alike_since: float = 0.0
    _alike: int = 0
    """Steps of `_step_s` that have followed each other since `_alike_since`."""
    _reserved: int = 0
    _held: int = 0

    @property
    def running(self) -> int:
        """Sequences being prefilled or decoded."""
        return len(self._prefilling) + len(self._joining) + len(self._decoding) + len(self._embedding)

    @property
    def waiting(self) -> int:
        """Sequences not yet admitted."""
        return len(self._waiting)

    @property
    def kv_usage(self) -> float:
        """Share of the KV cache that holds tokens; what is merely reserved does not count."""
        return self._held / self.timing.kv_tokens

    @property
    def next_at(self) -> float | None:
        """When the next prefill or step ends; None while idle."""
        if self._step_ends is None or self._prefill_ends is None:
            return self._prefill_ends if self._step_ends is None else self._step_ends
        return min(self._step_ends, self._prefill_ends)

    @property
    def next_change_at(self) -> float | None:
        """When the next step ends after which something is different, or the next prefill; None while idle."""
        if self._step_ends is None or not self._steady:
            return self.next_at
        at = self._alike_since + (self._alike + self._steps_left()) * self._step_s
        return at if self._prefill_ends is None else min(at, self._prefill_ends)

    def submit(
        self,
        now: float,
        prompt_tokens: int,
        output_tokens: int,
        *,
        cached_tokens: int = 0,
        tag: Any = None,
        priority: int = 0,
    ) -> Sequence:
        """Queue a sequence. Raises QueueFull, or ValueError for one that could never fit."""
        self._all_taken(now)
        sequence = Sequence(prompt_tokens, output_tokens, cached_tokens, now, tag, priority)
        if sequence.tokens > self.timing.kv_tokens:
            raise ValueError(f"{sequence.tokens} tokens never fit in a KV cache of {self.timing.kv_tokens}")
        if self.running + self.waiting >= self.max_running + self.max_queued:
            raise QueueFull
        at = len(self._waiting)
        while at and self._waiting[at - 1].priority > priority:
            at -= 1
        self._waiting.insert(at, sequence)
        self._admit(now)
        return sequence

    def step(self, now: float) -> list[Sequence]:
        """Do everything due by `now`; return who emitted a token or ended, once for each time it did."""
        heard: list[Sequence] = []
        while (at := self.next_at) is not None and at <= now:
            if at == self._prefill_ends:
                heard += self._end_prefill(at)
            else:
                heard += self._decoding
                heard += self._embedding
                self._end_steps(1)
        return heard

    def leap(self, now: float) -> tuple[list[Sequence], list[Sequence]]:
        """Do everything due by `now`, as `step` does; return who got its first token and who ended.

        Costs nothing for the steps between changes, so call it at `next_change_at`, not at each step's end.
        """
        firsts: list[Sequence] = []
        ended: list[Sequence] = []
        while (at := self.next_at) is not None and at <= now:
            if at == self._prefill_ends:
                ended += self._end_prefill(at)
            else:
                firsts += self._untold
                ended += self._end_steps(self._steps_alike(now))
        return firsts, ended

    def cancel(self, now: float, sequence: Sequence) -> None:
        """Take a sequence out at once; what it held is free for the next. No effect on one that has ended."""
        if sequence.ended:
            return
        self._all_taken(now)
        if sequence.state == "waiting":
            self._waiting.remove(sequence)
        elif sequence in self._embedding:
            self._embedding.remove(sequence)
        elif sequence.state == "prefilling":
            at_work = sequence is self._prefilling[0]
            self._prefilling.remove(sequence)
            if at_work and not self.timing.prefill_chunk_tokens:
                self._begin_prefill(now)
        elif sequence in self._joining:
            self._joining.remove(sequence)
        elif sequence in self._untold:
            self._untold.remove(sequence)
        self._end(sequence, now, "cancelled")
        self._admit(now)

    def stall(self, now: float, seconds: float) -> float:
        """Do nothing for so long, as soon as the present step has ended; until when."""
        self._all_taken(now)
        begins = now if self._step_ends is None else self._step_ends
        self._stalled_until = max(begins, self._stalled_until) + seconds * self.slowdown
        return self._stalled_until

    def _all_taken(self, now: float) -> None:
        if (due := self.next_at) is not None and due < now:
            raise ValueError(f"step({now}) comes first: something was due at {due}")

    def _admit(self, at: float) -> None:
        chunked = self.timing.prefill_chunk_tokens is not None
        while self._waiting and self.running < self.max_running:
            sequence = self._waiting[0]
            if self._reserved + sequence.tokens > self.timing.kv_tokens:
                return
            self._waiting.popleft()
            self._reserved += sequence.tokens
            self._held += sequence.prompt_tokens
            sequence.state = "prefilling"
            sequence._unprefilled = max(0, sequence.prompt_tokens - sequence.cached_tokens)
            sequence.admitted_at = at
            self._prefilling.append(sequence)
            if chunked and self._step_ends is None:
                self._begin_step(at)
            elif not chunked and self._prefill_ends is None:
                self._begin_prefill(at)

    def _begin_prefill(self, at: float) -> None:
        if not self._prefilling:
            self._prefill_ends = None
            return
        tokens = self._prefilling[0]._unprefilled
        begins = max(at, self._stalled_until)
        self._prefill_ends = begins + tokens / self.timing.prefill_tokens_per_s * self.slowdown

    def _end_prefill(self, at: float) -> list[Sequence]:
        """Those it ends."""
        sequence = self._prefilling.popleft()
        self._begin_prefill(at)
        if sequence.output_tokens:
            sequence.state = "decoding"
            self._joining.append(sequence)
            if self._step_ends is None:
                self._begin_step(at)
            return []
        self._end(sequence, at, "finished")
        self._admit(at)
        return [sequence]

    def _begin_step(self, at: float) -> None:
        for sequence in self._joining:
            self._decode(sequence)
        self._joining.clear()
        carried = self._carry_prompts() if self.timing.prefill_chunk_tokens else 0
        if not (self._decoding or self._embedding or carried):
            self._step_ends = None
            return
        step_s = self._pace_s() + carried / self.timing.prefill_tokens_per_s * self.slowdown
        step_s += max(0.0, self._stalled_until - at)
        if self._step_ends is None or step_s != self._step_s:
            self._alike_since, self._alike, self._step_s = at, 0, step_s
        self._step_ends = self._alike_since + (self._alike + 1) * step_s

    def _carry_prompts(self) -> int:
        """Prompt tokens the step that begins carries."""
        assert self.timing.prefill_chunk_tokens is not None
        room = max(1, self.timing.prefill_chunk_tokens - len(self._decoding))
        left = room
        while self._prefilling and left:
            first = self._prefilling[0]
            part = min(left, first._unprefilled)
            left -= part
            first._unprefilled -= part
            if first._unprefilled:
                break
            self._prefilling.popleft()
            if first.output_tokens:
                self._decode(first)
            else:
                self._embedding.append(first)
        return room - left

    def _decode(self, sequence: Sequence) -> None:
        """Count it in from the step that begins."""
        sequence.state = "decoding"
        sequence._batch = self
        sequence._joined_at = self.steps
        self._decoding[sequence] = None
        self._untold.append(sequence)
        self._joined += 1
        heappush(self._last_steps, (self.steps + sequence.output_tokens, self._joined, sequence))

    def _end_steps(self, count: int) -> list[Sequence]:
        """End this step and those like it that follow, `count` in all; who ended with the last."""
        for sequence in self._untold:
            sequence.first_token_at = self._step_ends
        self._untold.clear()
        self.steps += count
        self.tokens += count * len(self._decoding)
        self._alike += count
        self._held += count * len(self._decoding)
        at = self._alike_since + self._alike * self._step_s
        ended, self._embedding = self._embedding, []
        while self._last_steps and self._last_steps[0][0] <= self.steps:
            sequence = heappop(self._last_steps)[2]
            if not sequence.ended:
                ended.append(sequence)
        for sequence in ended:
            self._end(sequence, at, "finished")
        if ended:
            self._admit(at)
        self._begin_step(at)
        return ended

    def _pace_s(self) -> float:
        """What a step takes that carries no prompt."""
        further = self.timing.step_per_sequence_ms * max(0, len(self._decoding) - 1)
        return (self.timing.step_base_ms + further) / 1000 * self.slowdown

    @property
    def _steady(self) -> bool:
        """Whether the next step will be like the present one unless somebody ends."""
        if self._joining or (self._prefilling and self.timing.prefill_chunk_tokens):
            return False
        if self._step_ends is not None and self._stalled_until > self._step_ends:
            return False
        return bool(self._decoding) and self._pace_s() == self._step_s

    def _steps_left(self) -> int:
        """Until the first of those decoded ends."""
        while self._last_steps[0][2].ended:
            heappop(self._last_steps)
        return self._last_steps[0][0] - self.steps

    def _steps_alike(self, now: float) -> int:
        """How many steps to end at once, of those that end by `now`: at least one, the present."""
        if not self._steady:
            return 1
        count = min(self._steps_left(), int((now - self._alike_since) / self._step_s) - self._alike)
        while count > 1:
            at = self._alike_since + (self._alike + count) * self._step_s
            if at <= now and (self._prefill_ends is None or at < self._prefill_ends):
                break
            count -= 1
        return max(1, count)

    def _end(self, sequence: Sequence, at: float, state: Literal["finished", "cancelled"]) -> None:
        if sequence._batch is not None:
            sequence._emitted = sequence.emitted
            sequence._batch = None
            del self._decoding[sequence]
        if sequence.state != "waiting":
            self._reserved -= sequence.tokens
            self._held -= sequence.prompt_tokens + sequence.emitted
        sequence.state = state
        sequence.ended_at = at
