"""The pool: those sent back, replicas that several processes share, replicas that sleep."""

from __future__ import annotations

import asyncio

import pytest

from serve_app.http.errors import ApiError
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from tests.unit.routing.test_pool import pool_of, published


async def test_one_that_was_sent_back_goes_before_the_others_and_waits_no_longer_in_all() -> None:
    pool = pool_of(published("a", capacity=1), wait_s=0.3)
    replica = await pool.acquire()
    began = pool.now()
    waiting = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    returned = asyncio.create_task(pool.acquire(since=began))
    await asyncio.sleep(0)
    pool.release(replica)
    assert (await asyncio.wait_for(returned, 1)).id == "a" and not waiting.done()
    late = asyncio.create_task(pool.acquire(since=began - 1.0))
    with pytest.raises(ApiError) as refused:
        await asyncio.wait_for(late, 0.2)
    assert refused.value.status == 429
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert pool.queue.waiting == 0


async def test_processes_share_the_places_of_a_replica_that_all_see_free() -> None:
    limits = QueueLimits(1000, 5.0, 5.0, processes=4)
    pools = [ReplicaPool("m", limits) for _ in range(4)]
    tasks = [asyncio.create_task(pool.acquire()) for pool in pools for _ in range(100)]
    await asyncio.sleep(0)
    for pool in pools:
        pool.update([published("new", capacity=100)])
    await asyncio.sleep(0)
    assert [pool.replicas[0].in_flight for pool in pools] == [25] * 4, "all four together fill it"
    pools[0].release(pools[0].replicas[0])
    assert pools[0].replicas[0].in_flight == 25, "a place that it has given back is its own to fill"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_process_that_has_a_replica_for_itself_fills_it_report_by_report() -> None:
    pool = ReplicaPool("m", QueueLimits(1000, 5.0, 5.0, processes=4))
    pool.update([published("a", capacity=100)])
    tasks = [asyncio.create_task(pool.acquire()) for _ in range(200)]
    seen = []
    for _ in range(12):
        await asyncio.sleep(0)
        (replica,) = pool.replicas
        seen.append(replica.in_flight)
        pool.update([published("a", capacity=100, in_flight=replica.in_flight)])
    assert seen[0] == 25 and seen == sorted(seen) and seen[-1] >= 96
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_sleeping_replica_is_woken_only_when_the_others_are_full() -> None:
    pool = pool_of(published("awake", capacity=2), published("asleep", capacity=2, asleep=True))
    assert [(await pool.acquire()).id for _ in range(4)] == ["awake", "awake", "asleep", "asleep"]


async def test_what_a_woken_replica_said_before_does_not_count() -> None:
    pool = pool_of(published("a", capacity=4, asleep=True))
    await pool.acquire()
    pool.update([published("a", capacity=4, asleep=True)])
    assert [(await asyncio.wait_for(pool.acquire(), 1)).id for _ in range(3)] == ["a"] * 3


async def test_those_who_wait_are_given_one_that_is_told_to_wake() -> None:
    pool = pool_of(published("a", capacity=1, in_flight=1))
    waiting = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    pool.update([published("a", capacity=1, in_flight=1), published("b", capacity=1, asleep=True)])
    assert (await asyncio.wait_for(waiting, 1)).id == "b"
    pool.update([published("c", asleep=True)])
    (sleeping,) = pool.replicas
    pool.woken(sleeping)
    assert not sleeping.asleep(pool.now()) and pool.queue.expected_wait_s() == 0.0
