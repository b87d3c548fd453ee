"""Many requests at once, from processes that know the same old news of the replicas: each finds a place in a batch."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from serve_app.http.errors import ApiError
from serve_app.replica.protocol import CROWDED, FULL, ReplicaLoad
from serve_app.routing.pickers.least_loaded import LeastLoaded
from serve_app.routing.pickers.prefix_affinity import PrefixAffinity
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from serve_app.routing.replica import Replica
from serve_app.routing.retry import Refused, with_retries
from tests.support.replicas import published

REPLICAS = ("a", "b", "c", "d")
PLACES = 20
PROCESSES = 4


class Batches:
    """What is open at each replica, and was at most; a request stays until it is let go."""

    def __init__(self) -> None:
        self.open: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.asked: list[tuple[str, int | None]] = []
        self.go = asyncio.Event()

    async def answer(self, replica: Replica, places: int | None) -> None:
        """As admission control has it."""
        await asyncio.sleep(0)
        self.asked.append((replica.id, places))
        if self.open[replica.id] >= replica.info.capacity:
            raise Refused(FULL)
        if places is not None and self.open[replica.id] >= places:
            raise Refused(CROWDED)
        self.open[replica.id] += 1
        self.most[replica.id] = max(self.most[replica.id], self.open[replica.id])
        await self.go.wait()
        self.open[replica.id] -= 1


def pool(news: dict[str, int], policy: type[LeastLoaded | PrefixAffinity] = LeastLoaded) -> ReplicaPool:
    """One process's, with what it heard last of each replica."""
    made = ReplicaPool("m", QueueLimits(100, 5, 5, processes=PROCESSES), policy())
    made.update(
        published(id, ReplicaLoad(in_flight=open), capacity=2 * PLACES, max_running=PLACES) for id, open in news.items()
    )
    return made


async def overflow(policy: type[LeastLoaded | PrefixAffinity], *, asks: bool) -> int:
    """Requests that wait for a batch, of so many at once as would nearly fill all batches.

    Each process has heard of what was open a moment ago, which has ended.
    """
    batches = Batches()

    async def attempt(replica: Replica, places: int | None) -> None:
        await batches.answer(replica, places if asks else None)

    news = dict(zip(REPLICAS, (19, 16, 8, 5), strict=True))
    asking = [
        asyncio.create_task(with_retries(process, attempt))
        for process in [pool(news, policy) for _ in range(PROCESSES)]
        for _ in range(PLACES * len(REPLICAS) // PROCESSES - 3)
    ]
    async with asyncio.timeout(5):
        while batches.open.total() < len(asking):
            await asyncio.sleep(0.001)
    batches.go.set()
    await asyncio.gather(*asking)
    return sum(max(0, most - PLACES) for most in batches.most.values())


@pytest.mark.parametrize("policy", [LeastLoaded, PrefixAffinity])
async def test_few_wait_for_a_batch_while_another_has_a_place(policy: type[LeastLoaded | PrefixAffinity]) -> None:
    without, with_ = [[await overflow(policy, asks=asks) for _ in range(8)] for asks in (False, True)]
    assert sum(with_) < sum(without) / 3, (without, with_)


async def test_where_every_batch_is_full_it_waits_in_a_replica_once_all_were_asked() -> None:
    batches = Batches()
    batches.open.update(dict.fromkeys(REPLICAS, PLACES))
    asking = asyncio.create_task(with_retries(pool(dict.fromkeys(REPLICAS, 0)), batches.answer))
    async with asyncio.timeout(5):
        while batches.open.total() == PLACES * len(REPLICAS):
            await asyncio.sleep(0.001)
    assert sorted(batches.asked[:4]) == [(id, PLACES) for id in REPLICAS]
    assert [places for _, places in batches.asked[4:]] == [None]
    batches.go.set()
    await asking


async def test_a_full_batch_is_not_asked_again_at_once_but_when_a_request_has_ended_there() -> None:
    batches, process = Batches(), pool({"a": 0, "b": 0})
    batches.open.update({"a": PLACES, "b": PLACES})
    first = asyncio.create_task(with_retries(process, batches.answer))
    await asyncio.sleep(0.01)
    assert sorted(batches.asked[:2]) == [("a", PLACES), ("b", PLACES)] and batches.asked[2][1] is None
    second = asyncio.create_task(with_retries(process, batches.answer))
    await asyncio.sleep(0.01)
    assert [places for _, places in batches.asked[3:]] == [None]
    batches.go.set()
    await asyncio.gather(first, second)
    await with_retries(process, batches.answer)
    assert batches.asked[4][1] == PLACES


async def test_an_only_replica_is_not_asked_for_a_place() -> None:
    batches = Batches()
    batches.go.set()
    await with_retries(pool({"a": 0}), batches.answer)
    assert batches.asked == [("a", None)]


async def test_full_replicas_refuse_as_ever() -> None:
    batches = Batches()
    batches.open["a"] = 2 * PLACES
    batches.open["b"] = 2 * PLACES
    process = pool({"a": 0, "b": 0})
    with pytest.raises(ApiError) as refused:
        await with_retries(process, batches.answer)
    assert refused.value.status == 429 and batches.asked[0][1] == PLACES
    assert process.queue.refused == {"sent back": 1} and len(batches.asked) == 3
