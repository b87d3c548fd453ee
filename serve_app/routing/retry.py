"""One request's way through a pool: a replica that fails is left behind while another one can answer in its place.

What a process knows of a replica is a second old, and when many requests come at once, as when many answers have just
ended, all processes that know the same send them to the same replicas. So a replica in which a place in the batch is
expected is told to refuse the request where there is none; then it goes where there is one, and waits in a replica only
when no other is known to have one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from serve_app.http.errors import ApiError
from serve_app.replica.protocol import CROWDED, DIED, DRAINING, FULL
from serve_app.routing.claim import ONE, Claim
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.replica import Replica

_MOST_TRIES = 4
_FULL_MOST_S = 0.4
"""A person's request of which nothing was answered is refused where it is sent back for longer: the replicas are
overfull, and a refusal is to come within a second."""
_MOST_LOOKS = 8
"""Replicas at most whose batch is asked for a place before one is told to let the request wait for it."""
_MOST_DEATHS = 2
"""A request that was at work in two replicas as their engines died is not given a third, unless another one was with it
that may as well be why. Where a whole replica or its connection was lost, as with its node, it gets its turn first."""


class Attempt(Protocol):
    """Lets a replica answer the request."""

    def __call__(self, replica: Replica, places: int | None) -> Awaitable[None]:
        """Raises Refused, BrokenOff; with `places`, also where so many sequences are open there."""
        ...


class Refused(Exception):
    """The replica does not answer this request, for one of admission control's reasons, and another one may."""

    def __init__(self, reason: str, told: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.told = told
        """By the replica, which lives to say so."""


class Lost(Refused):
    """The replica was lost within its answer, with which another one can go on."""

    def __init__(self, told: bool) -> None:
        super().__init__(DIED, told)


class BrokenOff(Exception):
    """The replica failed within its answer: nobody else can complete it."""


async def with_retries(
    pool: ReplicaPool,
    attempt: Attempt,
    claim: Claim = ONE,
    retried: Callable[[], None] = lambda: None,
) -> None:
    """Let `attempt` answer the request from one replica, then another while it raises Refused.

    Raises ApiError when there is none to answer it, and BrokenOff as `attempt` does.
    """
    failed: set[str] = set()
    tries = deaths = 0
    looks = _MOST_LOOKS
    began = pool.now()
    since: float | None = None
    full_since: float | None = None
    while tries < _MOST_TRIES:
        turn = await pool.suspects.turn() if deaths >= _MOST_DEATHS else None
        try:
            contended = bool(pool.queue.waiting)
            replica = await pool.acquire(claim, frozenset(failed), since)
            may_queue = contended or not looks or len(pool.replicas) == 1 or replica.is_crowded(pool.now())
            places = None if may_queue else replica.info.max_running
            if turn is not None:
                turn.begin()
            with pool.suspects.within(replica.id, suspect=deaths > 0) as stay:
                refusal = await _tried(pool, attempt, claim, replica, places)
                if refusal is None:
                    return
                stay.died = refusal.reason == DIED
            if refusal.reason == CROWDED:
                # It comes to the pool as if for the first time: whoever waits there has not had its turn yet.
                pool.crowded(replica)
                looks -= 1
                continue
            since = began
            tries += 1
            if refusal.reason != FULL:
                failed.add(replica.id)
            elif full_since is None:
                full_since = pool.now()
            elif pool.now() > full_since + _FULL_MOST_S and not deaths and not claim.batch:
                raise pool.queue.all_full(claim)
            if isinstance(refusal, Lost):
                # It waits for its next replica from now on, however long it has had this one.
                since = began = pool.now()
            if stay.died:
                deaths += 1
                if turn.lasts if turn is not None else deaths >= _MOST_DEATHS and stay.alone and refusal.told:
                    break
        finally:
            if turn is not None:
                turn.end()
        retried()
    if not failed:
        raise pool.queue.all_full(claim)
    raise ApiError(503, "several replicas failed on this request", code="replicas_failed", retry_after_s=1)


async def _tried(
    pool: ReplicaPool, attempt: Attempt, claim: Claim, replica: Replica, places: int | None
) -> Refused | None:
    """Let this replica answer the request; why it did not. Raises BrokenOff as `attempt` does."""
    try:
        await attempt(replica, places)
        pool.succeeded(replica)
        return None
    except Refused as refusal:
        pool.shares.settle(claim, 0)
        if refusal.reason == FULL:
            pool.full(replica)
        elif refusal.reason != CROWDED:
            pool.eject(replica, leaving=refusal.reason == DRAINING)
        return refusal
    except BrokenOff:
        pool.eject(replica)
        raise
    finally:
        pool.release(replica, claim)
