"""One request's way through a pool: a replica that fails is left behind while another one can answer in its place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from serve_app.http.errors import ApiError
from serve_app.replica.protocol import DIED, DRAINING, FULL
from serve_app.routing.claim import ONE, Claim
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.replica import Replica

_MOST_TRIES = 4
_MOST_DEATHS = 2
"""A request that was at work in two replicas as their engines died is not given a third, unless another one was with it
that may as well be why. Where a whole replica or its connection was lost, as with its node, it gets its turn first."""


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
    attempt: Callable[[Replica], Awaitable[None]],
    claim: Claim = ONE,
    retried: Callable[[], None] = lambda: None,
) -> None:
    """Let `attempt` answer the request from one replica, then another while it raises Refused.

    Raises ApiError when there is none to answer it, and BrokenOff as `attempt` does.
    """
    failed: set[str] = set()
    deaths = 0
    began = pool.now()
    since: float | None = None
    for _ in range(_MOST_TRIES):
        turn = await pool.suspects.turn() if deaths >= _MOST_DEATHS else None
        try:
            replica = await pool.acquire(claim, frozenset(failed), since)
            if turn is not None:
                turn.begin()
            with pool.suspects.within(replica.id, suspect=deaths > 0) as stay:
                refusal = await _tried(pool, attempt, claim, replica)
                if refusal is None:
                    return
                stay.died = refusal.reason == DIED
            if refusal.reason != FULL:
                failed.add(replica.id)
            if isinstance(refusal, Lost):
                # It waits for its next replica from now on, however long it has had this one.
                began = pool.now()
            if stay.died:
                deaths += 1
                if turn.lasts if turn is not None else deaths >= _MOST_DEATHS and stay.alone and refusal.told:
                    break
        finally:
            if turn is not None:
                turn.end()
        retried()
        since = began
    if not failed:
        raise pool.queue.all_full(claim)
    raise ApiError(503, "several replicas failed on this request", code="replicas_failed", retry_after_s=1)


async def _tried(
    pool: ReplicaPool, attempt: Callable[[Replica], Awaitable[None]], claim: Claim, replica: Replica
) -> Refused | None:
    """Let this replica answer the request; why it did not. Raises BrokenOff as `attempt` does."""
    try:
        await attempt(replica)
        pool.succeeded(replica)
        return None
    except Refused as refusal:
        pool.shares.settle(claim, 0)
        if refusal.reason == FULL:
            pool.full(replica)
        else:
            pool.eject(replica, leaving=refusal.reason == DRAINING)
        return refusal
    except BrokenOff:
        pool.eject(replica)
        raise
    finally:
        pool.release(replica, claim)
