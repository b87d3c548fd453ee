"""How many sequences of a batch to keep open. Pure: callers tell the time, and what they saw of the service.

- While it is served it grows: by one for every sequence answered at first (doubling each round), and after the service
  first refused or queued by one a round.
- A refusal (429, 503) cuts it by a third, once a round, and stops new requests for as long as Retry-After says.
- Where the service tells its queue, what waits in it beyond a share of what runs is taken back: engines are full with
  some requests waiting, and more only makes everyone wait.
- While others use the service it holds no more than `share` of what it would: batch requests yield to those of people.
"""

from __future__ import annotations

from dataclasses import dataclass

START = 32
MOST = 8192
CUT = 0.7
ROUND_S = 1.0
"""Seconds. A service that is full refuses many requests at once: together they count as one refusal."""
QUEUED = 0.25
"""Waiting requests, as a share of those that run, that keep an engine full until the next look at its queue."""
QUEUED_ALONE = 1.0
"""QUEUED where nobody else could be made to wait. Requests that begin together end together, and as many should then be
there: until answers have come back and new requests are rendered, the engine's steps would be half empty."""
FADES = 0.9
"""How much of the most that ran counts at the next look: requests that end together leave an engine empty for a moment,
with as many waiting for its next step, and it is not less full for that."""
HOLD_S = 10.0
"""How long others count as present after they were last seen."""


@dataclass(frozen=True, slots=True)
class ServiceLoad:
    """What the service holds at a moment, all of its replicas together."""

    running: int
    """Sequences in the engines' batches, this batch's own included."""
    waiting: int
    """Sequences accepted but not yet in a batch, this batch's own included."""
    others: int
    """Sequences of others, open now or answered since the last look."""


class Pace:
    """The bound on open sequences."""

    def __init__(self, start: int = START, most: int = MOST, share: float = 1 / 16, queued: float = QUEUED) -> None:
        """`share`: of the bound, what is left to the batch while others use the service (at least one request).

        `queued`: of the sequences that run, how many more may wait.
        """
        self._limit = float(min(start, most))
        self._most = most
        self._share = share
        self._queued = queued
        self._doubling = True
        self._ran = 0.0
        self._cut_at = float("-inf")
        self._paused_until = float("-inf")
        self._others_until = float("-inf")

    def allowed(self, now: float) -> int:
        """How many sequences may be open; 0 during a pause."""
        if now < self._paused_until:
            return 0
        return max(1, int(self._limit * self._share if self.yielding(now) else self._limit))

    def yielding(self, now: float) -> bool:
        """Whether others use the service."""
        return now < self._others_until

    def paused_s(self, now: float) -> float:
        """How long no request may be sent."""
        return max(0.0, self._paused_until - now)

    def served(self, now: float, open: int, sequences: int = 1) -> None:
        """An answer of so many sequences came, with so many open; fewer than allowed say nothing about more."""
        if open >= self.allowed(now) and not self.yielding(now):
            self._limit = min(self._most, self._limit + (sequences if self._doubling else sequences / self._limit))

    def refused(self, now: float, retry_after_s: float | None) -> None:
        """The service answered that it is full or not ready."""
        self._paused_until = max(self._paused_until, now + (retry_after_s or 0.0))
        if now - self._cut_at >= ROUND_S:
            self._cut_at = now
            self._cut(self._limit * CUT)

    def seen(self, now: float, load: ServiceLoad) -> None:
        """A look at the service."""
        if load.others:
            self._others_until = now + HOLD_S
        self._ran = max(float(load.running), self._ran * FADES)
        excess = load.waiting - max(2.0, self._queued * self._ran)
        if excess > 0 and not self.yielding(now):
            self._cut(max(self._limit - excess, self._limit * CUT))

    def _cut(self, limit: float) -> None:
        self._limit = max(1.0, limit)
        self._doubling = False
