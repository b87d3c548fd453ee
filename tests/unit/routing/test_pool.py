"""The pool: choosing, waiting, ejecting, counting."""

from __future__ import annotations

import asyncio
import random

import pytest

from serve_app.http.errors import ApiError
from serve_app.replica.protocol import ReplicaLoad
from serve_app.routing import pool as pool_module
from serve_app.routing.claim import Claim
from serve_app.routing.pickers.prefix_affinity import PrefixAffinity
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from serve_app.routing.replica import Published
from tests.support import replicas


def published(name: str, capacity: int = 4, **load: object) -> Published:
    return replicas.published(name, ReplicaLoad(**load), url=f"http://{name}", capacity=capacity, max_running=capacity)


def pool_of(*replicas: Published, max_waiting: int = 8, wait_s: float = 5.0, start_s: float = 5.0) -> ReplicaPool:
    pool = ReplicaPool("m", QueueLimits(max_waiting, wait_s, start_s), PrefixAffinity(random.Random(1)))
    pool.update(replicas)
    return pool


async def test_picks_the_less_loaded_of_two() -> None:
    pool = pool_of(published("busy", in_flight=3), published("idle"))
    assert (await pool.acquire()).id == "idle"


async def test_own_requests_count_as_load() -> None:
    pool = pool_of(published("a"), published("b"))
    assert sorted([(await pool.acquire()).id for _ in range(4)]) == ["a", "a", "b", "b"]


async def test_a_report_is_not_counted_twice() -> None:
    pool = pool_of(published("a"))
    replica = await pool.acquire()
    pool.update([published("a", in_flight=1)])
    assert replica.occupied == 1
    pool.update([published("a", in_flight=3)])
    assert replica.occupied == 3


async def test_what_is_known_of_a_replica_survives_an_update() -> None:
    pool = pool_of(published("a"))
    replica = await pool.acquire()
    pool.update([published("a"), published("b")])
    assert {one.id: one.in_flight for one in pool.replicas} == {"a": 1, "b": 0}
    pool.release(replica)
    assert replica.in_flight == 0


async def test_draining_and_avoided_replicas_are_not_offered() -> None:
    pool = pool_of(published("a", draining=True), published("b"), published("c"))
    assert {(await pool.acquire(avoid=frozenset({"b"}))).id for _ in range(4)} == {"c"}


async def test_an_ejected_replica_comes_back_and_pauses_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(pool_module.time, "monotonic", lambda: now)
    pool = pool_of(published("a"))
    (replica,) = pool.replicas
    pool.eject(replica)
    assert not replica.accepts(now) and replica.accepts(now + pool_module.EJECTED_FIRST_S)
    now += 10
    pool.eject(replica)
    assert not replica.accepts(now + pool_module.EJECTED_FIRST_S)
    pool.succeeded(replica)
    assert replica.breaks == 0


async def test_a_request_waits_for_room_in_order_of_arrival() -> None:
    pool = pool_of(published("a", capacity=1))
    first = await pool.acquire()
    order: list[int] = []

    async def wait(number: int) -> None:
        replica = await pool.acquire()
        order.append(number)
        pool.release(replica)

    waiting = [asyncio.create_task(wait(number)) for number in range(3)]
    await asyncio.sleep(0)
    assert pool.queue.waiting == 3
    pool.release(first)
    await asyncio.gather(*waiting)
    assert order == [0, 1, 2] and pool.queue.waiting == 0


async def test_room_for_one_is_given_to_the_first_and_costs_the_same_however_many_wait() -> None:
    draws = 0

    class Counting(random.Random):
        def random(self) -> float:
            nonlocal draws
            draws += 1
            return super().random()

    full = [published(str(number), capacity=1, in_flight=1) for number in range(1000)]
    pool = ReplicaPool("m", QueueLimits(1000, 1e9, 1e9), PrefixAffinity(Counting()))
    pool.update(full)
    waiting = [asyncio.create_task(pool.acquire(Claim(key=(number, number)))) for number in range(1000)]
    await asyncio.sleep(0)
    draws = 0
    for number in (7, 3):
        pool.update([*full[:number], published(str(number), capacity=1), *full[number + 1 :]])
    pool.release(await waiting[0])
    await asyncio.sleep(0)
    assert [(await task).id for task in waiting[:3]] == ["7", "3", "7"]
    assert pool.queue.waiting == 997 and draws < 10
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert pool.queue.waiting == 0


async def test_room_for_several_is_shared_out_in_order_of_arrival() -> None:
    pool = pool_of(published("a", capacity=3, in_flight=3))
    waiting = [asyncio.create_task(pool.acquire()) for _ in range(4)]
    await asyncio.sleep(0)
    pool.update([published("a", capacity=3)])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [True, True, True, False]
    pool.release(await waiting[1])
    assert (await waiting[3]).in_flight == 3


async def test_one_that_avoids_what_has_room_holds_up_nobody_and_keeps_its_place() -> None:
    pool = pool_of(published("a", capacity=1, in_flight=1), published("b", capacity=1, in_flight=1))
    picky = asyncio.create_task(pool.acquire(avoid=frozenset({"a"})))
    await asyncio.sleep(0)
    other = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    pool.update([published("a", capacity=1), published("b", capacity=1, in_flight=1)])
    replica = await asyncio.wait_for(other, 1)
    pool.release(replica)
    late = await asyncio.wait_for(pool.acquire(), 1)
    assert (replica.id, late.id) == ("a", "a")
    last = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    pool.update([published("a", capacity=1, in_flight=1), published("b", capacity=1)])
    assert (await asyncio.wait_for(picky, 1)).id == "b" and not last.done()
    last.cancel()


async def test_a_replica_that_has_left_gives_nobody_room() -> None:
    pool = pool_of(published("a", capacity=1))
    replica = await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    pool.update([published("b", capacity=1, in_flight=1)])
    pool.release(replica)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    pool.update([published("b", capacity=1)])
    assert (await waiting).id == "b"


async def test_a_replica_left_alone_for_a_while_is_given_to_those_who_wait_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "FULL_FOR_S", 0.02)
    pool = pool_of(published("a"))
    replica = await pool.acquire()
    pool.full(replica)
    pool.release(replica)
    assert (await asyncio.wait_for(pool.acquire(), 1)) is replica


async def test_which_limit_holds_is_seen_when_it_ends() -> None:
    pool = pool_of(wait_s=0.01, start_s=0.2)
    waiting = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0.05)
    pool.update([published("a", capacity=1, in_flight=1)])
    with pytest.raises(ApiError) as full:
        await waiting
    assert full.value.status == 429 and pool.queue.waiting == 0


async def test_a_request_that_gives_up_leaves_its_turn_to_the_next() -> None:
    pool = pool_of(published("a", capacity=1))
    first = await pool.acquire()
    gone, stays = asyncio.create_task(pool.acquire()), asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    pool.release(first)
    gone.cancel()
    assert (await asyncio.wait_for(stays, 1)).id == "a"


async def test_a_first_replica_wakes_those_who_wait() -> None:
    pool = pool_of()
    waiting = [asyncio.create_task(pool.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    pool.update([published("a")])
    assert [replica.id for replica in await asyncio.gather(*waiting)] == ["a"] * 3


async def test_a_request_counts_as_its_sequences() -> None:
    pool = pool_of(published("a", capacity=8))
    replica = await pool.acquire(Claim(6))
    assert replica.in_flight == 6 and replica.free == 2
    waiting = [asyncio.create_task(pool.acquire()) for _ in range(4)]
    await asyncio.sleep(0)
    assert pool.queue.waiting == 2
    pool.release(replica, Claim(6))
    await asyncio.gather(*waiting)
    assert replica.in_flight == 4 and pool.queue.waiting == 0


async def test_one_of_many_goes_where_all_of_it_fits() -> None:
    full, empty = published("full", capacity=16, in_flight=9), published("empty", capacity=4)
    pool = pool_of(full, empty)
    assert (await pool.acquire(Claim(5))).id == "full"
    assert (await pool.acquire(Claim(3))).id == "empty"


async def test_one_of_many_is_served_in_its_turn_though_small_ones_keep_coming() -> None:
    pool = pool_of(published("a", capacity=4), max_waiting=100)
    replica = (await asyncio.gather(*(pool.acquire() for _ in range(4))))[0]
    order: list[int] = []

    async def request(sequences: int) -> None:
        got = await pool.acquire(Claim(sequences))
        order.append(sequences)
        await asyncio.sleep(0)
        pool.release(got, Claim(sequences))

    small = [asyncio.create_task(request(1)) for _ in range(2)]
    await asyncio.sleep(0)
    big = asyncio.create_task(request(4))
    await asyncio.sleep(0)
    late = [asyncio.create_task(request(1)) for _ in range(20)]
    for _ in range(4):
        pool.release(replica)
    async with asyncio.timeout(5):
        await asyncio.gather(*small, big, *late)
    assert order == [1, 1, 4, *[1] * 20] and replica.in_flight == 0


async def test_waiting_is_bounded_by_sequences() -> None:
    pool = pool_of(published("a", capacity=4, in_flight=4), max_waiting=8)
    big = [asyncio.create_task(pool.acquire(Claim(4))) for _ in range(2)]
    await asyncio.sleep(0)
    assert pool.queue.waiting == 8
    with pytest.raises(ApiError) as refused:
        await pool.acquire()
    assert refused.value.status == 429
    for task in big:
        task.cancel()
    await asyncio.gather(*big, return_exceptions=True)
    assert pool.queue.waiting == 0


async def test_no_replica_in_time_is_503_and_full_is_429() -> None:
    with pytest.raises(ApiError) as none:
        await pool_of(start_s=0.01).acquire()
    assert none.value.status == 503 and none.value.retry_after_s
    with pytest.raises(ApiError) as full:
        await pool_of(published("a", capacity=1, in_flight=1), wait_s=0.01).acquire()
    assert full.value.status == 429 and full.value.retry_after_s


async def test_too_many_waiting_is_429_at_once() -> None:
    pool = pool_of(max_waiting=1)
    first = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    with pytest.raises(ApiError) as refused:
        await pool.acquire()
    assert refused.value.status == 429
    first.cancel()


async def test_counts_return_to_zero_whatever_happens() -> None:
    pool = pool_of(published("a", capacity=3), published("b", capacity=3), wait_s=0.05)
    rng = random.Random(2)

    async def request() -> None:
        sequences = rng.choice((1, 1, 1, 2, 3))
        try:
            replica = await pool.acquire(Claim(sequences))
        except ApiError:
            return
        try:
            await asyncio.sleep(rng.random() / 200)
            if rng.random() < 0.2:
                pool.full(replica)
        finally:
            pool.release(replica, Claim(sequences))

    tasks = [asyncio.create_task(request()) for _ in range(60)]
    for task in rng.sample(tasks, 10):
        asyncio.get_running_loop().call_later(rng.random() / 100, task.cancel)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [replica.in_flight for replica in pool.replicas] == [0, 0] and pool.queue.waiting == 0
