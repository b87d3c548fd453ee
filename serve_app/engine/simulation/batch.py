"""Continuous batching in virtual time: which sequence gets a token when.

The model, deliberately small:
- A sequence waits, first in first out, until one of `max_running` places is free and its prompt and its whole
  output fit in what the KV cache has unreserved. Then it is prefilled, one sequence at a time, at
  `prefill_tokens_per_s`. Prefill delays that sequence and those behind it, not the ones being decoded.
- A decoding step of n sequences takes `step_base_ms + step_per_sequence_ms * (n - 1)` and gives each of them one
  token. Whoever was prefilled during a step joins the next; with nothing to decode, one starts at once.
- Steps follow each other without a gap, whenever `step` is called: a late caller gets all that was due.

Nothing here reads a clock. Times are seconds on the caller's clock, and never decrease.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

from serve_app.config import Simulated


class QueueFull(Exception):
    """Running and waiting sequences already fill the replica."""


@dataclass(slots=True, eq=False)
class Sequence:
    """One prompt and the output it will get."""

    prompt_tokens: int
    output_tokens: int
    """Tokens it will emit; 0 ends it with its prefill, as an embedding does."""
    cached_tokens: int
    """Of the prompt, found in the prefix cache and not prefilled again."""
    submitted_at: float
    tag: Any = None
    """The caller's own."""
    state: Literal["waiting", "prefilling", "decoding", "finished", "cancelled"] = "waiting"
    emitted: int = 0
    admitted_at: float | None = None
    first_token_at: float | None = None
    ended_at: float | None = None

    @property
    def tokens(self) -> int:
        """KV cache it may come to need, tokens."""
        return self.prompt_tokens + self.output_tokens

    @property
    def service_s(self) -> float:
        """Seconds in the batch, of a sequence that was in it and has ended."""
        assert self.admitted_at is not None and self.ended_at is not None
        return self.ended_at - self.admitted_at

    @property
    def ended(self) -> bool:
        return self.state in ("finished", "cancelled")


@dataclass(slots=True)
class Batch:
    """One replica's sequences."""

    timing: Simulated
    max_running: int
    max_queued: int
    slowdown: float = 1.0
    """Multiplies the duration of every step and prefill that starts from now on."""
    _waiting: deque[Sequence] = field(default_factory=deque)
    _prefilling: deque[Sequence] = field(default_factory=deque)
    _joining: list[Sequence] = field(default_factory=list)
    _decoding: list[Sequence] = field(default_factory=list)
    _prefill_ends: float | None = None
    _step_ends: float | None = None
    _reserved: int = 0
    _held: int = 0

    @property
    def running(self) -> int:
        """Sequences being prefilled or decoded."""
        return len(self._prefilling) + len(self._joining) + len(self._decoding)

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

    def submit(
        self, now: float, prompt_tokens: int, output_tokens: int, *, cached_tokens: int = 0, tag: Any = None
    ) -> Sequence:
        """Queue a sequence. Raises QueueFull, or ValueError for one that could never fit."""
        self._all_taken(now)
        sequence = Sequence(prompt_tokens, output_tokens, cached_tokens, now, tag)
        if sequence.tokens > self.timing.kv_tokens:
            raise ValueError(f"{sequence.tokens} tokens never fit in a KV cache of {self.timing.kv_tokens}")
        if self.running + self.waiting >= self.max_running + self.max_queued:
            raise QueueFull
        self._waiting.append(sequence)
        self._admit(now)
        return sequence

    def step(self, now: float) -> list[Sequence]:
        """Do everything due by `now`; return who emitted a token or ended, once for each time it did."""
        heard: list[Sequence] = []
        while (at := self.next_at) is not None and at <= now:
            if at == self._prefill_ends:
                self._end_prefill(at, heard)
            else:
                self._end_step(at, heard)
        return heard

    def cancel(self, now: float, sequence: Sequence) -> None:
        """Take a sequence out at once; what it held is free for the next. No effect on one that has ended."""
        if sequence.ended:
            return
        self._all_taken(now)
        if sequence.state == "waiting":
            self._waiting.remove(sequence)
        elif sequence.state == "prefilling":
            at_work = sequence is self._prefilling[0]
            self._prefilling.remove(sequence)
            if at_work:
                self._begin_prefill(now)
        else:
            (self._joining if sequence in self._joining else self._decoding).remove(sequence)
        self._end(sequence, now, "cancelled")
        self._admit(now)

    def _all_taken(self, now: float) -> None:
        if (due := self.next_at) is not None and due < now:
            raise ValueError(f"step({now}) comes first: something was due at {due}")

    def _admit(self, at: float) -> None:
        while self._waiting and self.running < self.max_running:
            sequence = self._waiting[0]
            if self._reserved + sequence.tokens > self.timing.kv_tokens:
                return
            self._waiting.popleft()
            self._reserved += sequence.tokens
            self._held += sequence.prompt_tokens
            sequence.state = "prefilling"
            sequence.admitted_at = at
            self._prefilling.append(sequence)
            if self._prefill_ends is None:
                self._begin_prefill(at)

    def _begin_prefill(self, at: float) -> None:
        if not self._prefilling:
            self._prefill_ends = None
            return
        first = self._prefilling[0]
        tokens = max(0, first.prompt_tokens - first.cached_tokens)
        self._prefill_ends = at + tokens / self.timing.prefill_tokens_per_s * self.slowdown

    def _end_prefill(self, at: float, heard: list[Sequence]) -> None:
        sequence = self._prefilling.popleft()
        self._begin_prefill(at)
        if sequence.output_tokens:
            sequence.state = "decoding"
            self._joining.append(sequence)
            if self._step_ends is None:
                self._begin_step(at)
        else:
            self._end(sequence, at, "finished")
            heard.append(sequence)
            self._admit(at)

    def _begin_step(self, at: float) -> None:
        self._decoding += self._joining
        self._joining.clear()
        if not self._decoding:
            self._step_ends = None
            return
        further = self.timing.step_per_sequence_ms * (len(self._decoding) - 1)
        self._step_ends = at + (self.timing.step_base_ms + further) / 1000 * self.slowdown

    def _end_step(self, at: float, heard: list[Sequence]) -> None:
        self._held += len(self._decoding)
        finished = False
        for sequence in self._decoding:
            sequence.emitted += 1
            if sequence.emitted == 1:
                sequence.first_token_at = at
            if sequence.emitted >= sequence.output_tokens:
                self._end(sequence, at, "finished")
                finished = True
        heard += self._decoding
        if finished:
            self._decoding = [sequence for sequence in self._decoding if not sequence.ended]
        self._begin_step(at)
        if finished:
            self._admit(at)

    def _end(self, sequence: Sequence, at: float, state: Literal["finished", "cancelled"]) -> None:
        if sequence.state != "waiting":
            self._reserved -= sequence.tokens
            self._held -= sequence.prompt_tokens + sequence.emitted
        sequence.state = state
        sequence.ended_at = at
