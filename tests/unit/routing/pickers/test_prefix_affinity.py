"""The pool with keys: who goes where, and when it does not."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from serve_app.replica.protocol import ReplicaLoad
from serve_app.routing.claim import Claim
from serve_app.routing.picker import Key
from serve_app.routing.pickers import PICKERS
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from serve_app.routing.replica import Published, Replica
from tests.support import replicas

NAMES = [f"replica-{number}" for number in range(8)]
KEY: Key = (2**40, 2**62)


def published(name: str, capacity: int = 256, **load: object) -> Published:
    return replicas.published(name, ReplicaLoad(**load), url=f"http://{name}", capacity=capacity, max_running=capacity)


def pool_of(*names: str, policy: str = "prefix_affinity", capacity: int = 256) -> ReplicaPool:
    pool = ReplicaPool("m", QueueLimits(8, 5, 5), PICKERS[policy](random.Random(1)))
    pool.update(published(name, capacity) for name in names)
    return pool


async def once(pool: ReplicaPool, key: Key | None = KEY, avoid: frozenset[str] = frozenset()) -> Replica:
    replica = await pool.acquire(Claim(key=key), avoid)
    pool.release(replica)
    return replica


async def places(pool: ReplicaPool, key: Key = KEY) -> tuple[str, str]:
    """The key's home and its second place."""
    home = (await once(pool, key)).id
    return home, (await once(pool, key, frozenset({home}))).id


async def test_the_same_key_gets_the_same_replica_in_every_process() -> None:
    home = (await once(pool_of(*NAMES))).id
    other = pool_of(*reversed(NAMES))
    assert {(await once(other)).id for _ in range(20)} == {home}
    assert other.placed == {"home": 20, "second": 0, "spilled": 0, "none": 0}


async def test_many_keys_are_spread_over_all_replicas() -> None:
    pool, rng = pool_of(*NAMES), random.Random(3)
    held = [await pool.acquire(Claim(key=(rng.getrandbits(64), rng.getrandbits(64)))) for _ in range(800)]
    counts = Counter(replica.id for replica in held)
    assert set(counts) == set(NAMES) and max(counts.values()) < 1.35 * 100


async def test_a_replica_that_leaves_moves_only_its_keys() -> None:
    pool, rng = pool_of(*NAMES), random.Random(4)
    keys = [(rng.getrandbits(64), rng.getrandbits(64)) for _ in range(200)]
    before = [(await once(pool, key)).id for key in keys]
    pool.update(published(name) for name in NAMES[1:])
    after = [(await once(pool, key)).id for key in keys]
    assert NAMES[0] in before and NAMES[0] not in after
    assert all(new == old for old, new in zip(before, after, strict=True) if old != NAMES[0])


async def test_a_crowded_home_spills_to_the_second_place_and_then_to_the_least_loaded() -> None:
    pool = pool_of(*NAMES)
    home, second = await places(pool)
    held = [await pool.acquire(Claim(key=KEY)) for _ in range(60)]
    counts = Counter(replica.id for replica in held)
    assert [name for name, _ in Counter(replica.id for replica in held[:10]).most_common()] == [home, second]
    assert set(counts) == set(NAMES) and max(counts.values()) <= 1.25 * 60 / len(NAMES) + 5


@pytest.mark.parametrize("load", [{"draining": True}, {"in_flight": 256}, {"in_flight": 20}])
async def test_a_home_that_drains_or_is_loaded_is_left_for_the_second_place(load: dict[str, object]) -> None:
    pool = pool_of(*NAMES)
    home, second = await places(pool)
    pool.update(published(name, **(load if name == home else {})) for name in NAMES)
    assert (await once(pool)).id == second
    pool.update(published(name) for name in NAMES)
    assert (await once(pool)).id == home


async def test_a_home_that_broke_or_is_avoided_is_left() -> None:
    pool = pool_of(*NAMES)
    home, second = await places(pool)
    assert (await once(pool, avoid=frozenset({home}))).id == second
    assert (await once(pool, avoid=frozenset({home, second}))).id not in (home, second)
    pool.eject(next(replica for replica in pool.replicas if replica.id == home))
    assert (await once(pool)).id == second


async def test_a_small_replica_keeps_its_key_although_a_report_lags() -> None:
    pool = pool_of(*NAMES, capacity=4)
    home = (await once(pool)).id
    pool.update(published(name, 4, in_flight=int(name == home)) for name in NAMES)
    assert (await once(pool)).id == home


async def test_full_of_streams_most_keys_stay_at_home_and_no_replica_is_far_above_the_others() -> None:
    pool, rng = pool_of(*NAMES[:4], capacity=160), random.Random(5)
    keys = [(rng.getrandbits(64), rng.getrandbits(64)) for _ in range(64)]
    streams = [await pool.acquire(Claim(key=rng.choice(keys))) for _ in range(128)]
    busiest = 0.0
    for _ in range(5000):
        stream = rng.randrange(len(streams))
        pool.release(streams[stream])
        streams[stream] = await pool.acquire(Claim(key=rng.choice(keys)))
        busiest += max(replica.occupied for replica in pool.replicas) / 5000
    assert pool.placed["home"] / sum(pool.placed.values()) > 0.7
    assert busiest < 1.25 * 128 / 4


async def test_who_waits_keeps_its_key() -> None:
    pool = pool_of("a", "b", capacity=1)
    home = (await once(pool)).id
    held = [await pool.acquire(), await pool.acquire()]
    waiting = asyncio.create_task(pool.acquire(Claim(key=KEY)))
    await asyncio.sleep(0)
    for replica in held:
        pool.release(replica)
    assert (await waiting).id == home


async def test_keys_are_ignored_without_affinity_without_a_choice_and_where_there_is_none() -> None:
    plain, alone, keyless = pool_of(*NAMES, policy="least_loaded"), pool_of("a"), pool_of(*NAMES)
    assert len({(await once(plain)).id for _ in range(40)}) > 2 and not plain.affine
    assert (await once(alone)).id == "a" and not alone.affine
    assert len({(await once(keyless, None)).id for _ in range(40)}) > 2 and keyless.affine
    assert [pool.placed["none"] for pool in (plain, alone, keyless)] == [40, 1, 40]
