"""The replicas of one model as this process knows them, and the wait for one of them.

Everything happens on the ingress's event loop, announcements included, so nothing is locked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from serve_app.http.errors import ApiError
from serve_app.routing.picker import Key, Picker, Placed
from serve_app.routing.pickers.least_loaded import LeastLoaded
from serve_app.routing.random_set import RandomSet
from serve_app.routing.replica import Published, Replica

EJECTED_FIRST_S = 2.0
"""How long a replica that broke a connection is left alone; doubles with each further break."""
EJECTED_MOST_S = 60.0
TIMER_SLACK_S = 0.01
"""uvloop counts milliseconds: its timers may fire just before `time.monotonic()` has come that far."""
FULL_FOR_S = 0.5
"""How long a replica that refused as full is taken for full."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How long and how many sequences wait for a replica in this process."""

    max_waiting: int
    wait_timeout_s: float
    start_timeout_s: float


@dataclass(eq=False, slots=True)
class _Waiter:
    """A request that waits, and what it gets."""

    avoid: frozenset[str]
    key: Key | None
    sequences: int
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
        """Those that have room for a sequence."""
        self._waiters: dict[_Waiter, None] = {}
        self._waiting = 0

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
                replica = Replica(one)
            else:
                replica.update(one)
            replicas[one.id] = replica
        self._replicas = replicas
        self._candidates = tuple(replicas.values())
        self.picker.update(replicas)
        now = self._clock()
        self._room = RandomSet(replica for replica in self._candidates if replica.accepts(now))
        self._serve_waiters()

    async def acquire(self, avoid: frozenset[str] = frozenset(), key: Key | None = None, sequences: int = 1) -> Replica:
        """A replica with room for one more request, of so many sequences, which it counts from now; `release` it
        afterwards.

        `avoid` holds the ids of replicas that have already failed this request. Requests with the same `key` get the
        same replica while it is there, has room and is not much more loaded than others. Raises ApiError 503 when no
        replica comes up in time, 429 when all stay full or too many requests wait already.
        """
        replica = None if self._waiters else self._take(avoid, key, sequences)
        return replica or await self._wait(avoid, key, sequences)

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

    async def _wait(self, avoid: frozenset[str], key: Key | None, sequences: int) -> Replica:
        if self._waiting >= self._limits.max_waiting:
            raise self._overloaded(f"{self._waiting} sequences for {self.model!r} wait already")
        began = self._clock()
        waiter = _Waiter(avoid, key, sequences, asyncio.get_running_loop().create_future())
        self._waiters[waiter] = None
        self._waiting += sequences
        # Those before it may be waiting because they avoid the replicas that have room.
        self._serve_waiters()
        try:
            # Which of the two holds may change meanwhile, with the replicas.
            for limit in sorted((self._limits.wait_timeout_s, self._limits.start_timeout_s)):
                await asyncio.wait((waiter.granted,), timeout=began + limit - self._clock())
                if waiter.granted.done():
                    return waiter.granted.result()
                if self._limit_s() <= limit:
                    break
        except asyncio.CancelledError:
            if waiter.granted.done():
                self.release(waiter.granted.result(), sequences)
            raise
        finally:
            if waiter in self._waiters:
                self._leave(waiter)
        raise self._timed_out(self._limit_s())

    def _limit_s(self) -> float:
        return self._limits.wait_timeout_s if self._serving() else self._limits.start_timeout_s

    def _leave(self, waiter: _Waiter) -> None:
        del self._waiters[waiter]
        self._waiting -= waiter.sequences

    def _serve_waiters(self) -> None:
        served = []
        for waiter in self._waiters:
            if not self._room:
                break
            if (replica := self._take(waiter.avoid, waiter.key, waiter.sequences)) is not None:
                waiter.granted.set_result(replica)
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
            return self._overloaded(f"every replica of {self.model!r} stayed full for {limit:g} s")
        message = f"no replica of {self.model!r} is ready; the request waited {limit:g} s for one"
        return ApiError(503, message, param="model", code="model_not_ready", retry_after_s=10)

    @staticmethod
    def _overloaded(message: str) -> ApiError:
        return ApiError(429, f"{message}; retry later or add replicas", code="overloaded", retry_after_s=1)
