"""The replicas of one model as this process knows them, and the wait for one of them.

Everything happens on the ingress's event loop, announcements included, so nothing is locked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

from serve_app.routing.claim import ONE, Claim
from serve_app.routing.fair_share import FairShares
from serve_app.routing.picker import Picker, Placed
from serve_app.routing.pickers.least_loaded import LeastLoaded
from serve_app.routing.queue import QueueLimits, WaitingQueue
from serve_app.routing.random_set import RandomSet
from serve_app.routing.replica import Published, Replica
from serve_app.routing.suspects import Suspects

EJECTED_FIRST_S = 2.0
"""How long a replica that broke a connection is left alone; doubles with each further break."""
EJECTED_MOST_S = 60.0
TIMER_SLACK_S = 0.01
"""uvloop counts milliseconds: its timers may fire just before `time.monotonic()` has come that far."""
FULL_FOR_S = 0.5
"""How long a replica that refused as full is taken for full."""
CROWDED_FOR_S = 0.1
"""How long one without a place in its batch is not asked for one, while no request of this process ends there."""


class ReplicaPool:
    """The replicas of one model; hands out the one that suits a request best and waits when there is none.

    Requests that wait are served by whoever makes room: each is given its replica, so that none is woken for nothing,
    and room for one costs the same however many replicas are full and requests wait.

    What is counted are sequences: a request may be many. One that is more than any replica has free goes where there is
    room for some of it: that replica lets nobody else in until the whole of it fits.

    Where there are several clients, a part of each replica is a reserve for those that hold much less than their share,
    so that they find a place in its batch at once.
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
        self.suspects = Suspects()
        self.begun = 0
        """Replicas that have come so far."""
        self.failures = 0
        """Times that a replica was found to have failed; once for each, until it answers again."""
        self.shares = FairShares()
        self.queue = WaitingQueue(model, limits, self, self.shares, self._clock)

    @property
    def replicas(self) -> tuple[Replica, ...]:
        return self._candidates

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
                self.begun += 1
            else:
                if one.load.failed and not replica.load.failed:
                    self._fails(replica)
                replica.update(one)
            replicas[one.id] = replica
        self._replicas = replicas
        self._candidates = tuple(replicas.values())
        self._sort_out()
        self.queue.serve()

    def woken(self, replica: Replica) -> None:
        """It was told to wake, and has."""
        if self._replicas.get(replica.id) is replica:
            replica.woken(self._clock())
            self._sort_out()
            self.queue.serve()

    def _sort_out(self) -> None:
        """Who has room, who sleeps."""
        now = self._clock()
        self.picker.update({id: one for id, one in self._replicas.items() if not one.asleep(now)})
        self._room = RandomSet(replica for replica in self._candidates if replica.accepts(now))
        self._asleep = RandomSet(one for one in self._candidates if one.asleep(now) and one.serves(now))

    def has_room(self) -> bool:
        """Whether a replica has room, or would wake for a request."""
        return bool(self._room or self._asleep)

    def any_serves(self, now: float) -> bool:
        """Whether any replica serves."""
        return any(one.serves(now) for one in self._candidates)

    def count_serving(self, now: float) -> tuple[int, float]:
        """How many replicas serve, and this process's part of the places of one of them."""
        capacities = [one.info.capacity for one in self._candidates if one.serves(now)]
        return len(capacities), max(capacities, default=0) / self._limits.processes

    def now(self) -> float:
        """On the pool's clock."""
        return self._clock()

    async def acquire(
        self, claim: Claim = ONE, avoid: frozenset[str] = frozenset(), since: float | None = None
    ) -> Replica:
        """A replica with room for one more request, whose sequences it counts from now; `release` it afterwards.

        `avoid` holds the ids of replicas that have already failed this request. Requests with the same key get the same
        replica while it is there, has room and is not much more loaded than others. One that had a replica and was sent
        back says `since` when it has been on its way: it waits before the others, and no longer than they do in all.
        Raises ApiError 503 when no replica comes up in time, 429 when all stay full or too many requests wait already.
        """
        self.shares.arrives(claim, self._clock())
        if not self.queue.before(claim, returned=since is not None):
            replica = self.take(claim, avoid, spares=self.shares.spares(claim))
            if replica is not None:
                self.queue.passed(claim)
                return replica
        return await self.queue.wait(claim, avoid, since)

    def release(self, replica: Replica, claim: Claim = ONE) -> None:
        """The request is no longer there."""
        replica.in_flight -= claim.sequences
        self.shares.ended(claim)
        self._reconsider(replica)

    def give_back(self, replica: Replica, claim: Claim) -> None:
        """The request was never there."""
        self.shares.settle(claim, 0)
        self.release(replica, claim)

    def succeeded(self, replica: Replica) -> None:
        """It answered: whatever it did before is forgiven, and there is a place in its batch."""
        replica.breaks = 0
        replica.crowded_until = 0.0

    def eject(self, replica: Replica, leaving: bool = False) -> None:
        """It refused or broke a connection: leave it alone for a while. `leaving` is one that said it goes."""
        pause = min(EJECTED_MOST_S, EJECTED_FIRST_S * 2**replica.breaks)
        self._fails(replica, leaving)
        replica.shunned_until = self._clock() + pause
        self._leave_out(replica, pause)

    def _fails(self, replica: Replica, leaving: bool = False) -> None:
        self.failures += not replica.breaks and not leaving
        replica.breaks += 1

    def full(self, replica: Replica) -> None:
        """It said it is full, which this process did not know."""
        replica.full_until = self._clock() + FULL_FOR_S
        self._leave_out(replica, FULL_FOR_S)

    def crowded(self, replica: Replica) -> None:
        """It said that its batch is full, whatever this process knew."""
        replica.elsewhere = max(replica.elsewhere, replica.info.max_running - replica.in_flight)
        if replica.free <= 0:
            self._room.discard(replica)
        replica.crowded_until = self._clock() + CROWDED_FOR_S

    def take(self, claim: Claim, avoid: frozenset[str], *, spares: bool) -> Replica | None:
        """A replica with room, which counts the request from now; one that `spares` leaves the reserve to others."""
        replica = self._pick(claim, avoid, claim.sequences, spares)
        if replica is None and claim.sequences > 1:
            replica = self._pick(claim, avoid, 1, spares)
        if replica is None:
            replica = next((one for one in self._asleep if one.id not in avoid), None)
            if replica is not None:
                replica.woken(self._clock())
                self._sort_out()
        if replica is not None:
            replica.in_flight += claim.sequences
            self.shares.given(claim)
            if replica.free <= 0:
                self._room.discard(replica)
        return replica

    def _pick(self, claim: Claim, avoid: frozenset[str], room: int, spares: bool) -> Replica | None:
        now = self._clock()

        def usable(replica: Replica) -> bool:
            return replica.id not in avoid and (replica.unreserved if spares else replica.free) >= room

        def may_have_place(replica: Replica) -> bool:
            return not replica.is_crowded(now) and usable(replica)

        def pick(usable: Callable[[Replica], bool]) -> Replica | None:
            return self.picker.pick(self._room, usable, claim.key, claim.adapter)

        return pick(may_have_place) or pick(usable)

    def _leave_out(self, replica: Replica, pause_s: float) -> None:
        self._room.discard(replica)
        asyncio.get_running_loop().call_later(pause_s + TIMER_SLACK_S, self._reconsider, replica)

    def _reconsider(self, replica: Replica) -> None:
        """It may have room now."""
        if self._replicas.get(replica.id) is replica and replica.accepts(self._clock()):
            self._room.add(replica)
            self.queue.serve()
