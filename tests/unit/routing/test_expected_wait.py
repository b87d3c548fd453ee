"""How fast a queue is taken, and how long one waits in it."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from serve_app.http.errors import ApiError
from serve_app.replica.protocol import ReplicaLoad
from serve_app.routing.expected_wait import LEARN_S, Coming, TakenRate, expected_s
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import REVIEW_S, QueueLimits, WaitingQueue
from serve_app.routing.replica import Published
from tests.support import replicas


def test_nothing_is_known_before_something_was_taken_from_a_queue_for_a_while() -> None:
    rate = TakenRate()
    assert rate.per_s(100.0) is None
    rate.began(100.0)
    rate.took(100.3, 5)
    assert rate.per_s(100.4) is None, "too soon"
    assert rate.per_s(100.0 + LEARN_S) == pytest.approx((5 + 2 * 5**0.5) / LEARN_S), "the most that is likely"


def test_long_answers_that_hold_all_places_are_not_taken_for_a_queue_that_never_moves() -> None:
    rate = TakenRate()
    rate.began(0.0)
    assert rate.per_s(50.0) is None
    rate.took(60.0, 24)
    assert rate.per_s(60.0) == pytest.approx(24 / 60)


def test_a_queue_that_has_been_empty_begins_anew() -> None:
    rate = TakenRate()
    rate.began(0.0)
    for at in range(10):
        rate.took(float(at), 100)
    rate.began(20.0)
    assert rate.per_s(20.0 + LEARN_S) is None


def test_the_rate_follows_what_was_taken_lately() -> None:
    rate = TakenRate()
    rate.began(0.0)
    for at in range(100):
        rate.took(at * 1.0, 2)
    for at in range(100, 130):
        rate.took(at * 1.0, 20)
    assert rate.per_s(130.0) == pytest.approx(20, rel=0.1)


@pytest.mark.parametrize(
    ("before", "coming", "expected"),
    [
        (100, None, 10.0),
        (100, Coming(3, 20.0), 10.0),  # they come too late for this one
        (400, Coming(3, 20.0), 20.0 + (400 - 200 - 3 * 20) / 40),
        (240, Coming(3, 20.0), 20.0),  # they take the rest at a stroke
    ],
)
def test_replicas_on_their_way_shorten_the_wait(before: int, coming: Coming | None, expected: float) -> None:
    assert expected_s(before, 10.0, 0.0, 1, coming, room=20) == pytest.approx(expected)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def published(capacity: int) -> Published:
    return replicas.published("a", ReplicaLoad(), url="http://a", capacity=capacity, max_running=capacity)


async def queue_of(pool: ReplicaPool, clock: Clock, per_s: float, seconds: float) -> list[asyncio.Task[object]]:
    """One that a replica takes `per_s` from for so long."""
    first = await pool.acquire()
    waiting: list[asyncio.Task[object]] = [asyncio.create_task(pool.acquire()) for _ in range(100)]
    await asyncio.sleep(0)
    for _ in range(int(per_s * seconds)):
        clock.now += 1 / per_s
        pool.release(first)
        await asyncio.sleep(0)
    return waiting


async def ended(waiting: list[asyncio.Task[object]]) -> None:
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_who_would_wait_too_long_is_refused_at_once_and_told_when_to_come_back() -> None:
    clock = Clock()
    pool = ReplicaPool("m", QueueLimits(1000, 30.0, 60.0), clock=clock)
    pool.update([published(1)])
    waiting = await queue_of(pool, clock, per_s=2.0, seconds=10.0)
    assert pool.queue.waiting == 80 and pool.queue.expected_wait_s() == pytest.approx(40, rel=0.1)
    with pytest.raises(ApiError) as refused:
        await pool.acquire()
    error = refused.value
    assert error.status == 429 and error.code == "overloaded" and pool.queue.refused.total() == 1
    assert error.retry_after_s is not None and 8 <= error.retry_after_s <= 20
    assert "80 sequences" in error.message and "2 a second" in error.message and "30 s" in error.message
    pool.queue.coming = Coming(1, clock.now + 5.0)
    late = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    assert not late.done(), "with a second replica in 5 s it will not wait so long"
    await ended([*waiting, late])


async def test_who_cannot_be_served_in_time_is_refused_when_that_is_known_and_not_when_time_is_up() -> None:
    pool = ReplicaPool("m", QueueLimits(1000, 20.0, 20.0))
    pool.update([published(1)])
    replica = await pool.acquire()
    waiting = [asyncio.create_task(pool.acquire()) for _ in range(600)]
    for _ in range(20):
        await asyncio.sleep(0.05)
        pool.release(replica)
    async with asyncio.timeout(5):
        while not any(task.done() and task.exception() for task in waiting):
            await asyncio.sleep(0.05)
    refused = [task.exception() for task in waiting if task.done() and task.exception()]
    assert all(isinstance(one, ApiError) and one.status == 429 for one in refused)
    assert len(refused) == pool.queue.refused.total() and pool.queue.waiting + len(refused) + 20 >= 600
    assert not waiting[25].done(), "the first have time"
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_nobody_is_refused_for_what_is_not_known() -> None:
    clock = Clock()
    pool = ReplicaPool("m", QueueLimits(1000, 1.0, 1.0), clock=clock)
    pool.update([published(1)])
    await pool.acquire()
    waiting: list[asyncio.Task[object]] = [asyncio.create_task(pool.acquire()) for _ in range(500)]
    await asyncio.sleep(0)
    clock.now += 0.5
    assert (
        pool.queue.waiting == 500 and pool.queue.expected_wait_s() is None and not any(task.done() for task in waiting)
    )
    await ended(waiting)


async def test_a_process_that_shares_replicas_counts_on_its_share_of_a_new_one() -> None:
    found = {}
    for processes in (1, 4):
        clock = Clock()
        pool = ReplicaPool("m", QueueLimits(1000, 500.0, 60.0, processes), clock=clock)
        pool.update([published(1)])
        waiting = await queue_of(pool, clock, per_s=2.0, seconds=10.0)
        pool.update([published(40)])
        waiting += [asyncio.create_task(pool.acquire()) for _ in range(60)]
        await asyncio.sleep(0)
        pool.queue.coming = Coming(1, clock.now + 5.0)
        found[processes] = pool.queue.expected_wait_s()
        await ended(waiting)
    one, four = found[1], found[4]
    assert one is not None and four is not None and one < four


async def test_with_no_queue_there_is_no_wait() -> None:
    pool = ReplicaPool("m", QueueLimits(10, 1.0, 1.0))
    assert pool.queue.expected_wait_s() is None, "no replica is known"
    pool.update([published(1)])
    assert pool.queue.expected_wait_s() == 0.0


def test_a_long_watch_keeps_few_sums() -> None:
    rate = TakenRate()
    rate.began(0.0)
    for at in itertools.takewhile(lambda at: at < 1000, itertools.count(0, 0.01)):
        rate.took(at, 1)
    assert len(rate._slots) < 200


async def test_a_queue_that_keeps_emptying_is_reviewed_no_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    reviews = 0
    review = WaitingQueue._review

    def counted(queue: WaitingQueue) -> None:
        nonlocal reviews
        reviews += 1
        review(queue)

    monkeypatch.setattr(WaitingQueue, "_review", counted)
    pool = ReplicaPool("m", QueueLimits(10, 5.0, 5.0))
    pool.update([published(1)])
    for _ in range(100):
        replica = await pool.acquire()
        waiting = asyncio.create_task(pool.acquire())
        await asyncio.sleep(0.006)
        pool.release(replica)
        pool.release(await waiting)
    await asyncio.sleep(REVIEW_S + 0.05)
    before = reviews
    await asyncio.sleep(2 * REVIEW_S)
    assert reviews == before, "none goes on without a queue"
    assert reviews < 20


async def test_a_client_that_leaves_as_it_is_refused_has_left() -> None:
    pool = ReplicaPool("m", QueueLimits(10, 5.0, 5.0))
    pool.update([published(1)])
    await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    (waiter,) = pool.queue._interactive.order()
    waiter.granted.set_exception(ApiError(429, "refused"))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert pool.queue.waiting == 0
