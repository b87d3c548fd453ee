"""The requests of one model that wait, in this process, until a replica has room.

First those are served that a replica sent back, then interactive requests, then batch work, though of BATCH_EVERY that
are served one is batch work where that waits. Interactive requests, and batch work, are served so that each client gets
its share (`routing.fair_share`), and within a client in the order in which they came. Who would wait longer than the
limit is refused as soon as that can be known. Where someone must go, batch work goes first, and then who has the most
waiting.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import Protocol

from serve_app.http.errors import ApiError
from serve_app.routing.claim import Claim
from serve_app.routing.expected_wait import CAUTION, Coming, TakenRate, expected_s
from serve_app.routing.fair_share import Client, FairShares
from serve_app.routing.line import FairLine, Line, Waiter
from serve_app.routing.refusals import (
    Refusal,
    fullest_made_way,
    made_way,
    not_ready,
    overloaded,
    stayed_full,
    too_long,
    too_many,
)
from serve_app.routing.replica import Replica

REVIEW_S = 0.25
"""How often it is looked whether those who wait can still be served in time."""
SOON_S = 0.75
"""Who is refused is refused within this time and a REVIEW_S, as far as it can be known."""
PATIENCE = 2.0
"""Who has waited longer than that, and is not served within the limit as was expected, may wait for so many times it:
to be late is better than to be refused late."""
BATCH_EVERY = 16
"""While batch work waits, one of so many that are served is batch work."""


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

    def take(self, claim: Claim, avoid: frozenset[str], *, spares: bool) -> Replica | None:
        """A replica with room for such a request, which counts it from now; one that `spares` leaves the reserve."""
        ...

    def give_back(self, replica: Replica, claim: Claim) -> None:
        """A request that was given the replica does not want it any more."""
        ...

    def any_serves(self, now: float) -> bool:
        """Whether any replica serves."""
        ...

    def count_serving(self, now: float) -> tuple[int, float]:
        """How many replicas serve, and this process's part of the places of one of them."""
        ...


class WaitingQueue:
    """The wait of one model's requests; counted are sequences, of which a request may be many."""

    def __init__(
        self, model: str, limits: QueueLimits, takers: Takers, shares: FairShares, clock: Callable[[], float]
    ) -> None:
        """`clock` tells the time in seconds."""
        self._model = model
        self._limits = limits
        self._takers = takers
        self._clock = clock
        self._returned = Line()
        """Those that had a replica and were sent back by it."""
        self._shares = shares
        self._interactive = FairLine(shares.people)
        self._batch = FairLine(shares.work)
        self._since_batch = 0
        """Interactive requests that were given a replica while batch work waited, since some was given one."""
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

    def passed(self, claim: Claim) -> None:
        """One was given a replica without having waited."""
        if self._batch and not claim.batch:
            self._since_batch += 1

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
                self._takers.give_back(waiter.granted.result(), claim)
            raise
        finally:
            waiter.line.leave(waiter)

    def serve(self) -> None:
        """Give replicas to those who wait, while there is room anywhere."""
        served, passed_over, reserve_only = [], set[Client](), False
        for waiter in self._order(passed_over):
            if not self._takers.has_room():
                break
            due = waiter.claim.batch and self._since_batch >= BATCH_EVERY - 1
            spares = not due and self._shares.spares(waiter.claim)
            if spares and reserve_only:
                passed_over.add(waiter.client)
                continue
            if (replica := self._takers.take(waiter.claim, waiter.avoid, spares=spares)) is None:
                if not waiter.avoid:
                    # What there is room for is a reserve, or avoided by others: there is none for its client.
                    passed_over.add(waiter.client)
                    reserve_only = spares
                continue
            waiter.granted.set_result(replica)
            if waiter.line is not self._returned:
                self._taken.took(self._clock(), waiter.claim.sequences)
            self._since_batch = 0 if waiter.claim.batch else self._since_batch + bool(self._batch)
            served.append(waiter)
        for waiter in served:
            waiter.line.leave(waiter)

    def _order(self, passed_over: Container[Client] = ()) -> Iterator[Waiter]:
        """All in the order in which they are to be served, without the rest of those clients' requests."""
        yield from self._returned
        batch, since = self._batch.order(passed_over), self._since_batch
        for waiter in self._interactive.order(passed_over):
            if since >= BATCH_EVERY - 1 and (due := next(batch, None)) is not None:
                yield due
                since = 0
            yield waiter
            since += 1
        yield from batch

    def expected_wait_s(self, *, batch: bool = False) -> float | None:
        """How long a request that came now would wait for a replica behind all those that wait; None where that is not
        known."""
        before = self._returned.sequences + self._interactive.sequences + (self._batch.sequences if batch else 0)
        return self._expected_s(before, self._clock())

    def _expected_s(self, before: int, now: float) -> float | None:
        """How long a request with so many sequences before it would wait; None where that is not known."""
        if not self.waiting:
            return 0.0 if self._takers.has_room() else None
        if (per_s := self._taken.per_s(now)) is None:
            return None
        serving, places = self._takers.count_serving(now)
        return expected_s(before, per_s, now, serving, self.coming, places)

    def refuse(self, reason: Refusal, sequences: int, error: ApiError) -> ApiError:
        """Count a refusal; returns its error."""
        self.refused[reason] += sequences
        return error

    def all_full(self, claim: Claim) -> ApiError:
        """The refusal of a request that replica after replica sent back."""
        wait_s = self._expected_s(self._before(claim), self._clock())
        error = overloaded(f"every replica of {self._model!r} is full", wait_s)
        return self.refuse("sent back", claim.sequences, error)

    def _join(self, claim: Claim, avoid: frozenset[str], came: float, *, returned: bool) -> Waiter:
        loop = asyncio.get_running_loop()
        line = self._returned if returned else self._batch if claim.batch else self._interactive
        client = self._shares.of(claim).client(claim)
        waiter = Waiter(claim, client, avoid, came, line, loop.create_future())
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
        before, limit_s = self._before(claim), self._limit_s()
        wait_s = self._expected_s(before, now)
        if self.waiting >= self._limits.max_waiting and not self._make_way(claim):
            raise self.refuse("too many", claim.sequences, too_many(self._model, self.waiting, wait_s))
        if wait_s is not None and CAUTION * wait_s > limit_s:
            per_s = self._taken.per_s(now) or math.inf
            error = too_long(self._model, before, per_s, wait_s, limit_s)
            raise self.refuse("too long", claim.sequences, error)

    def _make_way(self, claim: Claim) -> bool:
        """Send away batch work for an interactive request, or the last of the client that has the most waiting; False
        where that is whose request it is."""
        waiter: Waiter | None
        if self._batch and not claim.batch:
            waiter = self._batch.last_of(self._batch.fullest())
            error = made_way(self._model, self.expected_wait_s(batch=True))
        elif waiter := (self._batch if claim.batch else self._interactive).makes_way(claim):
            error = fullest_made_way(self._model, self.expected_wait_s(batch=claim.batch))
        else:
            return False
        self._send_away(waiter, "made way", error)
        return True

    def _review(self) -> None:
        """Refuse those who came lately and cannot be served in time, as soon as that is known."""
        self._reviewing = None
        if not self.waiting:
            return
        self._reviewing = asyncio.get_running_loop().call_later(REVIEW_S, self._review)
        now = self._clock()
        self._shares.forget(now)
        # Where nobody else is left, the reserve is for those who wait.
        self.serve()
        (serving, places), limit_s = self._takers.count_serving(now), self._limits.wait_timeout_s
        if (per_s := self._taken.per_s(now)) is None or not serving:
            return
        before, late = 0, []
        for waiter in self._order():
            wait_s = expected_s(before, per_s, now, serving, self.coming, places)
            soon = waiter.line is not self._returned and now < waiter.came + SOON_S
            if soon and now + wait_s > waiter.came + limit_s:
                late.append((waiter, too_long(self._model, before, per_s, wait_s, limit_s)))
            else:
                before += waiter.claim.sequences
        for waiter, error in late:
            self._send_away(waiter, "too long", error)

    def _send_away(self, waiter: Waiter, reason: Refusal, error: ApiError) -> None:
        waiter.granted.set_exception(self.refuse(reason, waiter.claim.sequences, error))
        waiter.line.leave(waiter)

    def _before(self, claim: Claim) -> int:
        """About how many sequences would be served before such a request that came now."""
        if not claim.batch:
            return self._returned.sequences + self._interactive.before(claim)
        before = self._batch.before(claim)
        return self._returned.sequences + before + min(self._interactive.sequences, (BATCH_EVERY - 1) * (before + 1))

    def _serving(self) -> bool:
        return self._takers.any_serves(self._clock())

    def _limit_s(self) -> float:
        return self._limits.wait_timeout_s if self._serving() else self._limits.start_timeout_s

    def _patience_s(self) -> float:
        """How long one waits at most."""
        return PATIENCE * self._limits.wait_timeout_s if self._serving() else self._limits.start_timeout_s
