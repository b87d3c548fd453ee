"""What /metrics says of replicas: how many there are, how many have come, and how many have failed."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from serve_app.config.schema import ModelConfig
from serve_app.replica.protocol import DEAD, DIED, DRAINING, FULL, ReplicaLoad
from serve_app.routing.catalogue import Catalogue, Served
from serve_app.routing.metrics import Metrics, PoolCounts
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from serve_app.routing.replica import Replica
from serve_app.routing.retry import Refused, with_retries
from serve_app.routing.router import Router
from tests.support.replicas import published


class Counted:
    """A pool and what is told of it."""

    def __init__(self) -> None:
        self.pool = ReplicaPool("m", QueueLimits(1, 0.01, 0.01))
        self._registry = CollectorRegistry()
        self._registry.register(PoolCounts([self.pool]))

    def __call__(self, name: str, **labels: str) -> float | None:
        return self._registry.get_sample_value(f"serve_app_{name}", {"model": "m", **labels})


async def test_replicas_are_counted_by_what_they_do_and_each_that_comes_once() -> None:
    counted = Counted()
    assert counted("replicas", state="ready") == 0 and counted("replica_starts_total") == 0
    counted.pool.update([published("a"), published("b", ReplicaLoad(asleep=True))])
    counted.pool.update([published("b", ReplicaLoad(asleep=True)), published("c")])
    assert counted("replicas", state="ready") == 1 and counted("replicas", state="asleep") == 1
    assert counted("replica_starts_total") == 3


@pytest.mark.parametrize(("reason", "failures"), [(DIED, 1), (DEAD, 1), (DRAINING, 0), (FULL, 0)])
async def test_a_replica_that_fails_counts_once_however_many_requests_it_had(reason: str, failures: int) -> None:
    counted = Counted()
    counted.pool.update([published("bad"), published("good")])

    async def attempt(replica: Replica, places: int | None) -> None:
        if replica.id == "bad":
            raise Refused(reason)

    for _ in range(20):
        # As though the pool had not noticed yet.
        for replica in counted.pool.replicas:
            replica.shunned_until = replica.full_until = 0.0
        counted.pool.update([published("bad"), published("good")])
        await with_retries(counted.pool, attempt)
    assert counted("replica_failures_total") == failures


async def test_a_replica_whose_engine_died_while_idle_counts_and_gets_no_request() -> None:
    counted = Counted()
    counted.pool.update([published("bad"), published("good")])
    for _ in range(3):
        counted.pool.update([published("bad", ReplicaLoad(failed=True)), published("good")])
    assert counted("replica_failures_total") == 1
    assert {(await counted.pool.acquire()).id for _ in range(4)} == {"good"}


def test_what_has_not_happened_yet_is_0_and_not_missing() -> None:
    router = Router(Catalogue([Served(ModelConfig.model_validate({"id": "m"}), Counted().pool)]), Metrics())
    sample = router.metrics.registry.get_sample_value
    for name in ("retries", "broken_answers", "frozen_replicas"):
        assert sample(f"serve_app_{name}_total", {"model": "m"}) == 0
    assert sample("serve_app_continued_streams_total", {"model": "m", "cause": "engine"}) == 0
