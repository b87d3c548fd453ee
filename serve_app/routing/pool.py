"""The replicas of one model as this process knows them, and the wait for one of them.

Everything happens on the ingress's event loop, announcements included, so nothing is locked.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

from serve_app.http.errors import ApiError
from serve_app.routing.expected_wait import CAUTION, Coming, TakenRate, expected_s
from serve_app.routing.picker import Key, Picker, Placed
from serve_app.routing.pickers.least_loaded import LeastLoaded
from serve_app.routing.random_set import RandomSet
from serve_app.routing.refusals import not_ready, overloaded, too_long
from serve_app.routing.replica import Published, Replica

EJECTED_FIRST_S = 2.0
"""How long a replica that broke a connection is left alone; doubles with each further break."""
EJECTED_MOST_S = 60.0
TIMER_SLACK_S = 0.01
"""uvloop counts milliseconds: its timers may fire just before `time.monotonic()` has come that far."""
FULL_FOR_S = 0.5
"""How long a replica that refused as full is taken for full."""
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


@dataclass(eq=False, slots=True)
class _Waiter:
    """A request that waits, and what it gets."""

    avoid: frozenset[str]
    key: Key | None
    sequences: int
    came: float
    """On the pool's clock."""
    granted: asyncio.Future[Replica]


class ReplicaPool:
    """The replicas of one model; hands out the one that suits a request best and waits when there is none.

    Requests that wait are served in the order in which they came, by whoever makes room: each is given its replica, so
    that none is woken for nothing, and room for one costs the same however many replicas are full and requests wait.

    What is counted are sequences: a request may be many. One that is more than any replica has free goes where there is
    room for some of it: that replica lets nobody else in until the whole of it fits.
    """

    def __init__(
        self,
        model: str,
        limits: QueueLimits,
        picker: Picker | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`picker` is the routing policy, the least loaded replica unless given. `clock` is the event loop's, where
        that is not `time.monotonic`."""
        self.model = model
        self._limits = limits
        self._clock = clock or time.monotonic
        self.picker = picker or LeastLoaded()
        self._replicas: dict[str, Replica] = {}
        self._candidates: tuple[Replica, ...] = ()
        self._room: RandomSet[Replica] = RandomSet()
        """Those that are awake and have room for a sequence."""
        self._asleep: RandomSet[Replica] = RandomSet()
        """Those that a request would wake."""
        self._waiters: dict[_Waiter, None] = {}
        self._returned: dict[_Waiter, None] = {}
        """Those that had a replica and were sent back by it: they go before the others."""
        self._waiting = 0
        self._taken = TakenRate()
        self._reviewing: asyncio.TimerHandle | None = None
        self.coming: Coming | None = None
        """Replicas that are starting, as far as the owner of this pool knows; on the pool's clock."""
        self.refused = 0
        """Sequences that found no replica and were sent away, so far."""

    @property
    def replicas(self) -> tuple[Replica, ...]:
        return self._candidates

    @property
    def waiting(self) -> int:
        """Sequences of the requests held here until a replica has room."""
        return self._waiting

    @property
    def placed(self) -> Mapping[Placed, int]:
        """Requests handed out so far."""
        return self.picker.placed

    @property
    def affine(self) -> bool:
        """Whether it makes a difference which key a request has."""
        return self.picker.affine

    def update(self, published: Iterable[Published]) -> None:
        """Take over the set Serve announces; what this process knows of a replica that stays is kept."""
        known = self._replicas
        replicas: dict[str, Replica] = {}
        for one in published:
            replica = known.get(one.id)
            if replica is None:
                replica = Replica(one, self._limits.processes)
            else:
                replica.update(one)
            replicas[one.id] = replica
        self._replicas = replicas
        self._candidates = tuple(replicas.values())
        self._sort_out()
        self._serve_waiters()

    def woken(self, replica: Replica) -> None:
        """It was told to wake, and has."""
        if self._replicas.get(replica.id) is replica:
            replica.woken(self._clock())
            self._sort_out()
            self._serve_waiters()

    def _sort_out(self) -> None:
        """Who has room, who sleeps."""
        now = self._clock()
        self.picker.update({id: one for id, one in self._replicas.items() if not one.asleep(now)})
        self._room = RandomSet(replica for replica in self._candidates if replica.accepts(now))
        self._asleep = RandomSet(one for one in self._candidates if one.asleep(now) and one.serves(now))

    def now(self) -> float:
        """On the pool's clock."""
        return self._clock()

    async def acquire(
        self,
        avoid: frozenset[str] = frozenset(),
        key: Key | None = None,
        sequences: int = 1,
        since: float | None = None,
    ) -> Replica:
        """A replica with room for one more request, of so many sequences, which it counts from now; `release` it
        afterwards.

        `avoid` holds the ids of replicas that have already failed this request. Requests with the same `key` get the
        same replica while it is there, has room and is not much more loaded than others. One that had a replica and was
        sent back says `since` when it has been on its way: it waits before the others, and no longer than they do in
        all. Raises ApiError 503 when no replica comes up in time, 429 when all stay full or too many requests wait
        already.
        """
        waits = self._returned or (since is None and self._waiters)
        replica = None if waits else self._take(avoid, key, sequences)
        return replica or await self._wait(avoid, key, sequences, since)

    def release(self, replica: Replica, sequences: int = 1) -> None:
        replica.in_flight -= sequences
        self._reconsider(replica)

    def succeeded(self, replica: Replica) -> None:
        """It answered: whatever it did before is forgiven."""
        replica.breaks = 0

    def eject(self, replica: Replica) -> None:
        """It refused or broke a connection: leave it alone for a while."""
        pause = min(EJECTED_MOST_S, EJECTED_FIRST_S * 2**replica.breaks)
        replica.breaks += 1
        replica.shunned_until = self._clock() + pause
        self._leave_out(replica, pause)

    def full(self, replica: Replica) -> None:
        """It said it is full, which this process did not know."""
        replica.full_until = self._clock() + FULL_FOR_S
        self._leave_out(replica, FULL_FOR_S)

    def _take(self, avoid: frozenset[str], key: Key | None, sequences: int) -> Replica | None:
        """A replica with room, which counts the request from now."""
        replica = self._pick(avoid, key, sequences)
        if replica is None and sequences > 1:
            replica = self._pick(avoid, key, 1)
        if replica is None:
            replica = next((one for one in self._asleep if one.id not in avoid), None)
            if replica is not None:
                replica.woken(self._clock())
                self._sort_out()
        if replica is not None:
            replica.in_flight += sequences
            if replica.free <= 0:
                self._room.discard(replica)
        return replica

    def _pick(self, avoid: frozenset[str], key: Key | None, room: int) -> Replica | None:
        def usable(replica: Replica) -> bool:
            return replica.id not in avoid and replica.free >= room

        return self.picker.pick(self._room, usable, key)

    def _serving(self) -> bool:
        now = self._clock()
        return any(replica.serves(now) for replica in self._candidates)

    async def _wait(self, avoid: frozenset[str], key: Key | None, sequences: int, since: float | None) -> Replica:
        now = self._clock()
        began = now if since is None else since
        if since is None:
            self._check_queue(now, sequences)
        if not self._waiting:
            self._taken.began(now)
        loop = asyncio.get_running_loop()
        waiter = _Waiter(avoid, key, sequences, began, loop.create_future())
        if self._reviewing is None:
            self._reviewing = loop.call_later(REVIEW_S, self._review)
        queue = self._waiters if since is None else self._returned
        queue[waiter] = None
        self._waiting += sequences
        # Those before it may be waiting because they avoid the replicas that have room.
        self._serve_waiters()
        try:
            # Which of the two holds may change meanwhile, with the replicas.
            for limit in sorted((PATIENCE * self._limits.wait_timeout_s, self._limits.start_timeout_s)):
                await asyncio.wait((waiter.granted,), timeout=began + limit - self._clock())
                if waiter.granted.done():
                    return waiter.granted.result()
                if self._patience_s() <= limit:
                    break
        except asyncio.CancelledError:
            if waiter.granted.done() and waiter.granted.exception() is None:
                self.release(waiter.granted.result(), sequences)
            raise
        finally:
            if waiter in queue:
                self._leave(waiter)
        self.refused += sequences
        raise self._timed_out(self._patience_s())

    def expected_wait_s(self) -> float | None:
        """How long a request that came now would wait for a replica; None where that is not known."""
        now = self._clock()
        if not self._waiting:
            return 0.0 if self._room or self._asleep else None
        per_s = self._taken.per_s(now)
        return None if per_s is None else self._until_taken_s(self._waiting, per_s, now)

    def _check_queue(self, now: float, sequences: int) -> None:
        """Raises ApiError 429 for a request that would be too many, or would wait too long."""
        wait_s, limit_s = self.expected_wait_s(), self._limit_s()
        if self._waiting >= self._limits.max_waiting:
            self.refused += sequences
            raise overloaded(f"{self._waiting} sequences for {self.model!r} wait already", wait_s or 1)
        if wait_s is not None and CAUTION * wait_s > limit_s:
            self.refused += sequences
            raise self._too_long(now, self._waiting, self._taken.per_s(now) or math.inf)

    def _review(self) -> None:
        """Refuse those who came lately and cannot be served in time, as soon as that is known."""
        self._reviewing = None
        if not self._waiting:
            return
        self._reviewing = asyncio.get_running_loop().call_later(REVIEW_S, self._review)
        now = self._clock()
        if (per_s := self._taken.per_s(now)) is None or not self._serving():
            return
        serving, room = self._takers(now)
        before, late = sum(one.sequences for one in self._returned), []
        for waiter in self._waiters:
            expected_at = now + expected_s(before, per_s, now, serving, self.coming, room)
            if now < waiter.came + SOON_S and expected_at > waiter.came + self._limits.wait_timeout_s:
                late.append(waiter)
            else:
                before += waiter.sequences
        for waiter in late:
            waiter.granted.set_exception(self._too_long(now, before, per_s))
            self._leave(waiter)
            self.refused += waiter.sequences

    def _until_taken_s(self, before: int, per_s: float, now: float) -> float:
        serving, room = self._takers(now)
        return expected_s(before, per_s, now, serving, self.coming, room)

    def _takers(self, now: float) -> tuple[int, float]:
        """Replicas that take from the queue, and this process's part of the places of one."""
        capacities = [one.info.capacity for one in self._candidates if one.serves(now)]
        return len(capacities), max(capacities, default=0) / self._limits.processes

    def _too_long(self, now: float, before: int, per_s: float) -> ApiError:
        wait_s, limit_s = self._until_taken_s(before, per_s, now), self._limit_s()
        return too_long(self.model, before, per_s, wait_s, limit_s)

    def _limit_s(self) -> float:
        return self._limits.wait_timeout_s if self._serving() else self._limits.start_timeout_s

    def _patience_s(self) -> float:
        """How long one waits at most."""
        return PATIENCE * self._limits.wait_timeout_s if self._serving() else self._limits.start_timeout_s

    def _leave(self, waiter: _Waiter) -> None:
        del (self._returned if waiter in self._returned else self._waiters)[waiter]
        self._waiting -= waiter.sequences

    def _serve_waiters(self) -> None:
        served = []
        for waiter in chain(self._returned, self._waiters):
            if not self._room and not self._asleep:
                break
            if (replica := self._take(waiter.avoid, waiter.key, waiter.sequences)) is not None:
                waiter.granted.set_result(replica)
                if waiter in self._waiters:
                    self._taken.took(self._clock(), waiter.sequences)
                served.append(waiter)
        for waiter in served:
            self._leave(waiter)

    def _leave_out(self, replica: Replica, pause_s: float) -> None:
        self._room.discard(replica)
        asyncio.get_running_loop().call_later(pause_s + TIMER_SLACK_S, self._reconsider, replica)

    def _reconsider(self, replica: Replica) -> None:
        """It may have room now."""
        if self._replicas.get(replica.id) is replica and replica.accepts(self._clock()):
            self._room.add(replica)
            self._serve_waiters()

    def _timed_out(self, limit: float) -> ApiError:
        if self._serving():
            return overloaded(f"every replica of {self.model!r} stayed full for {limit:g} s")
        return not_ready(self.model, limit)
