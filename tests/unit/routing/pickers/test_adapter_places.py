"""The pool with adapters: who has them, who gets their requests."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

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
RUNNING, ROOM = 64, 2
SPREADS_AT = RUNNING // 4
"""Sequences beyond which a replica is left for an idle one."""


def published(name: str, **load: object) -> Published:
    url = f"http://{name}"
    about = {"capacity": 2 * RUNNING, "max_running": RUNNING, "max_adapters": ROOM}
    return replicas.published(name, ReplicaLoad(**load), url=url, **about)


def pool_of(*names: str, policy: str = "prefix_affinity") -> ReplicaPool:
    pool = ReplicaPool("m", QueueLimits(8, 5, 5), PICKERS[policy](random.Random(1)))
    pool.update(map(published, names))
    return pool


async def once(pool: ReplicaPool, adapter: str | None, key: Key | None = None) -> str:
    replica = await pool.acquire(Claim(key=key, adapter=adapter))
    pool.release(replica)
    return replica.id


async def held(pool: ReplicaPool, adapter: str, count: int) -> list[Replica]:
    return [await pool.acquire(Claim(adapter=adapter)) for _ in range(count)]


async def test_an_adapter_has_one_home_that_every_process_finds() -> None:
    one, other = pool_of(*NAMES), pool_of(*reversed(NAMES))
    for adapter in ("a", "b", "c"):
        home = await once(one, adapter)
        assert {await once(other, adapter) for _ in range(20)} == {home}
    assert other.placed == {"home": 60, "second": 0, "spilled": 0, "none": 0}


async def test_many_adapters_are_spread_over_all_replicas() -> None:
    pool = pool_of(*NAMES)
    homes = Counter([await once(pool, f"adapter {number}") for number in range(400)])
    assert set(homes) == set(NAMES) and max(homes.values()) < 2 * 400 / len(NAMES)


async def test_a_replica_that_has_it_is_preferred_to_a_home_that_has_not() -> None:
    pool = pool_of(*NAMES)
    places = list(dict.fromkeys([one.id for one in await held(pool, "a", 3 * SPREADS_AT)]))
    pool = pool_of(*NAMES)
    pool.update(published(name, adapters=("b", "a") if name == places[1] else ("c",)) for name in NAMES)
    assert await once(pool, "a") == places[1] != places[0]
    pool.update(published(name, adapters=("a",)) for name in NAMES)
    assert await once(pool, "a") == places[0]


async def test_a_cold_adapter_stays_on_one_replica_and_a_hot_one_spreads_as_it_needs() -> None:
    pool = pool_of(*NAMES)
    assert len({one.id for one in await held(pool, "cold", SPREADS_AT)}) == 1
    pool = pool_of(*NAMES)
    used = defaultdict(set)
    for count, replica in enumerate(await held(pool, "hot", 4 * SPREADS_AT)):
        used[count // SPREADS_AT].add(replica.id)
    spread = [len(set().union(*(used[each] for each in range(until + 1)))) for until in range(4)]
    assert spread == sorted(spread) and spread[0] == 1 and 3 <= spread[3] <= 5
    await held(pool, "hot", RUNNING * len(NAMES) * 3 // 4 - 4 * SPREADS_AT)
    assert all(0 < replica.occupied <= RUNNING for replica in pool.replicas), "nothing queues where others have places"


async def test_a_crowded_adapter_takes_no_place_that_is_in_use() -> None:
    pool = pool_of(*NAMES)
    places = list(dict.fromkeys(one.id for one in await held(pool, "a", 3 * SPREADS_AT)))

    def announced(requests: dict[str, int], free: str = "") -> ReplicaPool:
        pool = pool_of(*NAMES)
        pool.update(
            published(name, adapters=("a", "b"), in_flight=RUNNING // 2, adapter_requests={"a": 1, "b": 1})
            if name == places[0]
            else published(name, adapters=("c", "d"), adapter_requests={} if name == free else requests)
            for name in NAMES
        )
        return pool

    busy = {"c": 1, "d": 1}
    assert {one.id for one in await held(announced(busy), "a", 5)} == {places[0]}, "nobody else has a place for it"
    assert {one.id for one in await held(announced(busy, free=places[2]), "a", 5)} == {places[2]}
    assert {one.id for one in await held(announced({"c": 1}), "a", 5)} == {places[1]}, "the first with an idle adapter"
    assert len({one.id for one in await held(announced(busy), "new", 5)}) == 1, "one that is nowhere goes home"


async def test_a_home_that_drains_or_has_gone_is_left() -> None:
    pool = pool_of(*NAMES)
    home = await once(pool, "a")
    pool.update(published(name, draining=name == home, adapters=("a",) if name == home else ()) for name in NAMES)
    second = await once(pool, "a")
    assert second != home
    pool.update(published(name) for name in NAMES if name != home)
    assert await once(pool, "a") == second


async def test_a_replica_that_leaves_moves_only_its_adapters() -> None:
    pool = pool_of(*NAMES)
    adapters = [f"adapter {number}" for number in range(100)]
    before = {one: await once(pool, one) for one in adapters}
    pool.update(map(published, NAMES[1:]))
    after = {one: await once(pool, one) for one in adapters}
    assert NAMES[0] in before.values()
    assert all(after[one] == before[one] for one in adapters if before[one] != NAMES[0])


async def test_conversations_of_an_adapter_share_replicas_that_have_it() -> None:
    pool, rng = pool_of(*NAMES), random.Random(2)
    keys = [(rng.getrandbits(64), rng.getrandbits(64)) for _ in range(50)]
    having = NAMES[:4]
    pool.update(published(name, adapters=("a",) if name in having else ()) for name in NAMES)
    found = {key: await once(pool, "a", key) for key in keys}
    assert set(found.values()) == set(having)
    again = Counter([await once(pool, "a", key) == found[key] for key in keys])
    assert again[True] > 30, "all but those of which no place has it"


@pytest.mark.parametrize("key", [None, (2**40, 2**62)])
async def test_a_request_without_adapter_does_not_care(key: Key | None) -> None:
    plain, having = pool_of(*NAMES), pool_of(*NAMES)
    having.update(published(name, adapters=("a",)) for name in NAMES)
    assert [await once(plain, None, key) for _ in range(5)] == [await once(having, None, key) for _ in range(5)]


async def test_the_policy_without_affinity_knows_no_adapters() -> None:
    pool = pool_of(*NAMES, policy="least_loaded")
    assert len({await once(pool, "a") for _ in range(100)}) == len(NAMES)
