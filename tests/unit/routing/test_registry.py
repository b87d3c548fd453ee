"""From Ray Serve's thread to the pool's loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from serve_app.routing import registry
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from tests.support.replicas import replica_info

INFO = replica_info(url="http://a").to_dict()


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_pools", {})
    monkeypatch.setattr(registry, "_early", {})


async def test_an_announcement_from_another_thread_reaches_the_pool() -> None:
    pool = ReplicaPool("m", QueueLimits(1, 1, 1))
    registry.register(pool)
    thread = threading.Thread(target=registry.publish, args=("m", [("a", INFO, {"in_flight": 2})]))
    thread.start()
    thread.join()
    await asyncio.sleep(0)
    assert [(replica.id, replica.occupied) for replica in pool.replicas] == [("a", 2)]


async def test_an_announcement_before_the_pool_is_kept() -> None:
    registry.publish("m", [("a", INFO, {})])
    pool = ReplicaPool("m", QueueLimits(1, 1, 1))
    registry.register(pool)
    assert len(pool.replicas) == 1


async def test_a_replica_without_metadata_is_left_out() -> None:
    pool = ReplicaPool("m", QueueLimits(1, 1, 1))
    registry.register(pool)
    registry.publish("m", [("a", {}, {})])
    await asyncio.sleep(0)
    assert pool.replicas == ()
