"""The requests of one model that wait, in this process, until a replica has room.

They are served in the order in which they came: first those that a replica sent back, then interactive requests, then
batch work. Who would wait longer than the limit is refused as soon as that can be known, and where someone must go,
batch work goes first.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from serve_app.http.errors import ApiError
from serve_app.routing.claim import Claim
from serve_app.routing.expected_wait import CAUTION, Coming, TakenRate, expected_s
from serve_app.routing.refusals import Refusal, made_way, not_ready, overloaded, stayed_full, too_long, too_many
from serve_app.routing.replica import Replica

REVIEW_S = 0.25
"""How often it is looked whether those who wait can still be served in time."""
SOON_S = 0.75
"""Who is refused is refused within this time and a REVIEW_S, as far as it can be known."""
PATIENCE = 2.0
"""Who has waited longer than that, and is not served within the limit as was expected, may wait for so many times it:
to be late is better than to be refused late."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How long and how many sequences wait for a replica in this process."""

    max_waiting: int
    wait_timeout_s: float
    """While some replica serves. Who would wait longer, as far as that is known, is refused at once; who waits longer
    all the same goes after PATIENCE times this."""
    start_timeout_s: float
    """While none does."""
    processes: int = 1
    """Processes like this one, among which the places of the replicas are shared."""


class Takers(Protocol):
    """Who takes from the queue."""

    def has_room(self) -> bool:
        """Whether a replica has room, or would wake for a request."""
        ...

    def take(self, claim: Claim, avoid: frozenset[str]) -> Replica | None:
        """A replica with room for such a request, which counts it from now."""
        ...

    def release(self, replica: Replica, sequences: int) -> None:
        """So many sequences that a replica counted have ended."""
        ...

    def any_serves(self, now: float) -> bool:
        """Whether any replica serves."""
        ...

    def count_serving(self, now: float) -> tuple[int, float]:
        """How many replicas serve, and this process's part of the places of one of them."""
        ...


@dataclass(eq=False, slots=True)
class Waiter:
    """A request that waits, and what it gets."""

    claim: Claim
    avoid: frozenset[str]
    """Ids of replicas that have already failed it."""
    came: float
    """On the queue's clock."""
    line: Line
    """Where it waits."""
    granted: asyncio.Future[Replica]


class Line:
    """Those who wait one behind another."""

    def __init__(self) -> None:
        self._waiters: dict[Waiter, None] = {}
        self.sequences = 0
        """Of all of them."""

    def __bool__(self) -> bool:
        return bool(self._waiters)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters)

    def last(self) -> Waiter:
        """Who came last; StopIteration in an empty line."""
        return next(reversed(self._waiters))

    def join(self, waiter: Waiter) -> None:
        self._waiters[waiter] = None
        self.sequences += waiter.claim.sequences

    def leave(self, waiter: Waiter) -> None:
        """Take it out, if it is in the line."""
        if waiter in self._waiters:
            del self._waiters[waiter]
            self.sequences -= waiter.claim.sequences


class WaitingQueue:
    """The wait of one model's requests; counted are sequences, of which a request may be many."""

    def __init__(self, model: str, limits: QueueLimits, takers: Takers, clock: Callable[[], float]) -> None:
        """`clock` tells the time in seconds."""
        self._model = model
        self._limits = limits
        self._takers = takers
        self._clock = clock
        self._returned = Line()
        """Those that had a replica and were sent back by it."""
        self._interactive = Line()
        self._batch = Line()
        self._taken = TakenRate()
        self._reviewing: asyncio.TimerHandle | None = None
        self.coming: Coming | None = None
        """Replicas that are starting, as far as is known; on the queue's clock."""
        self.refused: Counter[Refusal] = Counter()
        """Sequences that were sent away so far, by reason."""

    @property
    def waiting(self) -> int:
        """Sequences that wait."""
        return self._returned.sequences + self._interactive.sequences + self._batch.sequences

    def before(self, claim: Claim, *, returned: bool) -> bool:
        """Whether somebody waits who would be served before such a request."""
        return bool(self._returned or (not returned and (self._interactive or (claim.batch and self._batch))))

    async def wait(self, claim: Claim, avoid: frozenset[str], since: float | None) -> Replica:
        """Wait for a replica; `since` is when a request that was sent back has been on its way.

        Raises ApiError 429 for a request that would wait too long or be too many, or that all replicas were too full
        for in the end; 503 where there was no replica in time.
        """
        now = self._clock()
        if since is None:
            self._check(now, claim)
        if not self.waiting:
            self._taken.began(now)
        waiter = self._join(claim, avoid, now if since is None else since, returned=since is not None)
        # Those before it may be waiting because they avoid the replicas that have room.
        self.serve()
        try:
            return await self._granted(waiter)
        except asyncio.CancelledError:
            if waiter.granted.done() and waiter.granted.exception() is None:
                self._takers.release(waiter.granted.result(), claim.sequences)
            raise
        finally:
            waiter.line.leave(waiter)

    def serve(self) -> None:
        """Give replicas to those who wait, while there is room anywhere."""
        served = []
        for waiter in chain(self._returned, self._interactive, self._batch):
            if not self._takers.has_room():
                break
            if (replica := self._takers.take(waiter.claim, waiter.avoid)) is not None:
                waiter.granted.set_result(replica)
                if waiter.line is not self._returned:
                    self._taken.took(self._clock(), waiter.claim.sequences)
                served.append(waiter)
        for waiter in served:
            waiter.line.leave(waiter)

    def expected_wait_s(self, *, batch: bool = False) -> float | None:
        """How long a request that came now would wait for a replica; None where that is not known."""
        now = self._clock()
        if not self.waiting:
            return 0.0 if self._takers.has_room() else None
        per_s = self._taken.per_s(now)
        return None if per_s is None else self._until_taken_s(self._ahead(batch=batch), per_s, now)

    def refuse(self, reason: Refusal, sequences: int, error: ApiError) -> ApiError:
        """Count a refusal; returns its error."""
        self.refused[reason] += sequences
        return error

    def all_full(self, claim: Claim) -> ApiError:
        """The refusal of a request that replica after replica sent back."""
        wait_s = self.expected_wait_s(batch=claim.batch)
        error = overloaded(f"every replica of {self._model!r} is full", wait_s)
        return self.refuse("sent back", claim.sequences, error)

    def _join(self, claim: Claim, avoid: frozenset[str], came: float, *, returned: bool) -> Waiter:
        loop = asyncio.get_running_loop()
        line = self._returned if returned else self._batch if claim.batch else self._interactive
        waiter = Waiter(claim, avoid, came, line, loop.create_future())
        line.join(waiter)
        if self._reviewing is None:
            self._reviewing = loop.call_later(REVIEW_S, self._review)
        return waiter

    async def _granted(self, waiter: Waiter) -> Replica:
        # Which of the two limits holds may change meanwhile, with the replicas.
        for limit in sorted((PATIENCE * self._limits.wait_timeout_s, self._limits.start_timeout_s)):
            await asyncio.wait((waiter.granted,), timeout=waiter.came + limit - self._clock())
            if waiter.granted.done():
                return waiter.granted.result()
            if self._patience_s() <= limit:
                break
        if self._serving():
            error = stayed_full(self._model, self._patience_s(), self.expected_wait_s())
            raise self.refuse("waited in vain", waiter.claim.sequences, error)
        raise self.refuse("no replica", waiter.claim.sequences, not_ready(self._model, self._patience_s()))

    def _check(self, now: float, claim: Claim) -> None:
        """Raises ApiError 429 for a request that would be too many, or would wait too long."""
        wait_s, limit_s = self.expected_wait_s(batch=claim.batch), self._limit_s()
        if self.waiting >= self._limits.max_waiting and (claim.batch or not self._make_way()):
            raise self.refuse("too many", claim.sequences, too_many(self._model, self.waiting, wait_s))
        if wait_s is not None and CAUTION * wait_s > limit_s:
            per_s = self._taken.per_s(now) or math.inf
            error = too_long(self._model, self._ahead(batch=claim.batch), per_s, wait_s, limit_s)
            raise self.refuse("too long", claim.sequences, error)

    def _make_way(self) -> bool:
        """Send away the batch work that came last; False where none waits."""
        if not self._batch:
            return False
        self._send_away(self._batch.last(), "made way", made_way(self._model, self.expected_wait_s(batch=True)))
        return True

    def _review(self) -> None:
        """Refuse those who came lately and cannot be served in time, as soon as that is known."""
        self._reviewing = None
        if not self.waiting:
            return
        self._reviewing = asyncio.get_running_loop().call_later(REVIEW_S, self._review)
        now = self._clock()
        (serving, places), limit_s = self._takers.count_serving(now), self._limits.wait_timeout_s
        if (per_s := self._taken.per_s(now)) is None or not serving:
            return
        before, late = self._returned.sequences, []
        for waiter in chain(self._interactive, self._batch):
            wait_s = expected_s(before, per_s, now, serving, self.coming, places)
            if now < waiter.came + SOON_S and now + wait_s > waiter.came + limit_s:
                late.append((waiter, too_long(self._model, before, per_s, wait_s, limit_s)))
            else:
                before += waiter.claim.sequences
        for waiter, error in late:
            self._send_away(waiter, "too long", error)

    def _send_away(self, waiter: Waiter, reason: Refusal, error: ApiError) -> None:
        waiter.granted.set_exception(self.refuse(reason, waiter.claim.sequences, error))
        waiter.line.leave(waiter)

    def _ahead(self, *, batch: bool) -> int:
        """Sequences that would be served before a request that comes now."""
        return self._returned.sequences + self._interactive.sequences + (self._batch.sequences if batch else 0)

    def _until_taken_s(self, before: int, per_s: float, now: float) -> float:
        serving, places = self._takers.count_serving(now)
        return expected_s(before, per_s, now, serving, self.coming, places)

    def _serving(self) -> bool:
        return self._takers.any_serves(self._clock())

    def _limit_s(self) -> float:
        return self._limits.wait_timeout_s if self._serving() else self._limits.start_timeout_s

    def _patience_s(self) -> float:
        """How long one waits at most."""
        return PATIENCE * self._limits.wait_timeout_s if self._serving() else self._limits.start_timeout_s
