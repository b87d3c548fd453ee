"""Who goes first where several wait, and who goes where someone must."""

from __future__ import annotations

import asyncio

import pytest

from serve_app.http.errors import ApiError
from serve_app.replica.protocol import ReplicaLoad
from serve_app.routing.claim import Claim
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from tests.support.replicas import published

BATCH = Claim(batch=True)


def full_pool(max_waiting: int = 8) -> ReplicaPool:
    """A pool of one replica with one place."""
    pool = ReplicaPool("m", QueueLimits(max_waiting, 5.0, 5.0))
    pool.update([published("a", ReplicaLoad(), capacity=1, max_running=1)])
    return pool


async def test_batch_work_waits_behind_interactive_requests() -> None:
    pool, order = full_pool(), list[str]()
    held = await pool.acquire()

    async def one(name: str, claim: Claim, since: float | None = None) -> None:
        replica = await pool.acquire(claim, since=since)
        order.append(name)
        await asyncio.sleep(0)
        pool.release(replica)

    tasks = []
    for name, claim, since in (
        ("batch 1", BATCH, None),
        ("batch 2", BATCH, None),
        ("person 1", Claim(), None),
        ("person 2", Claim(), None),
        ("sent back", BATCH, pool.now()),
    ):
        tasks.append(asyncio.create_task(one(name, claim, since)))
        await asyncio.sleep(0)
    pool.release(held)
    await asyncio.gather(*tasks)
    assert order == ["sent back", "person 1", "person 2", "batch 1", "batch 2"]


async def test_batch_work_that_came_last_makes_way_in_a_full_queue() -> None:
    pool = full_pool(max_waiting=3)
    held = await pool.acquire()
    batch = [asyncio.create_task(pool.acquire(BATCH)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(ApiError, match="3 sequences for 'm' wait already"):
        await pool.acquire(BATCH)
    person = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    with pytest.raises(ApiError, match="makes way for interactive requests") as refused:
        await batch[2]
    assert refused.value.status == 429 and refused.value.retry_after_s
    assert not batch[0].done() and not batch[1].done() and pool.queue.waiting == 3
    people = [person, *(asyncio.create_task(pool.acquire()) for _ in range(2))]
    await asyncio.gather(*batch, return_exceptions=True)
    with pytest.raises(ApiError, match="3 sequences"):
        await pool.acquire()
    assert pool.queue.refused == {"too many": 2, "made way": 3}
    for _ in people:
        pool.release(held)
        await asyncio.sleep(0.001)
    assert all(task.done() for task in people)


async def test_only_what_is_before_a_request_counts_for_its_wait() -> None:
    now = 0.0
    pool = ReplicaPool("m", QueueLimits(1000, 10.0, 60.0), clock=lambda: now)
    pool.update([published("a", ReplicaLoad(), capacity=1, max_running=1)])
    held = await pool.acquire()
    tasks = [asyncio.create_task(pool.acquire(BATCH)) for _ in range(100)]
    await asyncio.sleep(0)
    for _ in range(40):  # two a second are taken
        now += 0.5
        pool.release(held)
        await asyncio.sleep(0)
    assert pool.queue.waiting == 60
    assert pool.queue.expected_wait_s() == 0 and pool.queue.expected_wait_s(batch=True) == pytest.approx(30, rel=0.1)
    with pytest.raises(ApiError, match=r"60 sequences for 'm' wait already, and 2\.1 a second"):
        await pool.acquire(BATCH)
    person = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    pool.release(held)
    assert (await person) is held
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_one_that_every_replica_sent_back_is_told_when_the_queue_is_short_again() -> None:
    now = 0.0
    pool = ReplicaPool("m", QueueLimits(1000, 60.0, 60.0), clock=lambda: now)
    pool.update([published("a", ReplicaLoad(), capacity=9, max_running=9)])
    held = [await pool.acquire() for _ in range(9)]
    tasks = [asyncio.create_task(pool.acquire()) for _ in range(30)]
    await asyncio.sleep(0)
    for _ in range(20):  # one a second is taken
        now += 1
        pool.release(held[0])
        await asyncio.sleep(0)

    assert pool.queue.waiting == 10
    refusal = pool.queue.all_full(Claim(3))
    assert refusal.status == 429 and refusal.retry_after_s in (9, 10)
    assert pool.queue.refused == {"sent back": 3}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
