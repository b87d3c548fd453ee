"""What each of several clients gets of replicas that are full, and when."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from serve_app.http.errors import ApiError
from serve_app.replica.protocol import ReplicaLoad
from serve_app.routing.claim import Claim
from serve_app.routing.fair_share import PRESENT_S
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import BATCH_EVERY, QueueLimits
from serve_app.routing.replica import Replica
from tests.support.replicas import published

FLOOD, TRICKLE = Claim(client="flood"), Claim(client="trickle")


class Crowd:
    """Requests for one replica, which ends them when it is told to."""

    def __init__(self, places: int = 1, max_waiting: int = 5000, clock: Callable[[], float] | None = None) -> None:
        self.pool = ReplicaPool("m", QueueLimits(max_waiting, 600.0, 600.0), clock=clock)
        self.pool.update([published("a", ReplicaLoad(), capacity=2 * places, max_running=places)])
        if places == 1:
            self.pool.update([published("a", ReplicaLoad(), capacity=1, max_running=1)])
        self.served: list[Claim] = []
        """In order."""
        self._held: list[tuple[Replica, Claim]] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def ask(self, claim: Claim, count: int = 1) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self._one(claim)) for _ in range(count)]
        self._tasks += tasks
        await self._settle()
        return tasks

    async def _settle(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    async def _one(self, claim: Claim) -> None:
        replica = await self.pool.acquire(claim)
        self.served.append(claim)
        self._held.append((replica, claim))

    async def end(self, count: int = 1, took: float | None = None) -> None:
        """So many of those that are being answered, one after another; each took so many tokens."""
        for _ in range(count):
            replica, claim = self._held.pop(0)
            if took is not None:
                self.pool.shares.settle(claim, took)
            self.pool.release(replica, claim)
            await self._settle()

    def open(self, claim: Claim) -> int:
        return sum(1 for _, held in self._held if held.client == claim.client)

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def crowd(**settings: object) -> AsyncIterator[Crowd]:
    one = Crowd(**settings)  # type: ignore[arg-type]
    try:
        yield one
    finally:
        await one.leave()


async def test_a_thousand_requests_of_one_client_delay_anothers_by_one() -> None:
    async with crowd() as requests:
        await requests.ask(FLOOD, 1000)
        await requests.ask(TRICKLE)
        await requests.end(2)
        assert requests.served == [FLOOD, FLOOD, TRICKLE] or requests.served == [FLOOD, TRICKLE, FLOOD]
        for _ in range(20):
            await requests.ask(TRICKLE)
            await requests.end(2)
            assert TRICKLE in requests.served[-2:]


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [
        (Claim(client="a"), Claim(client="b"), 1.0),
        (Claim(client="a", weight=2), Claim(client="b"), 2.0),
        (Claim(client="a", tokens=100), Claim(client="b", tokens=300), 3.0),
        (Claim(client="a", weight=2, tokens=300), Claim(client="b", tokens=100), 2 / 3),
        (Claim(client="a", batch=True, weight=3), Claim(client="b", batch=True), 3.0),
    ],
)
async def test_clients_get_tokens_by_weight(one: Claim, other: Claim, ratio: float) -> None:
    async with crowd() as requests:
        await requests.ask(one, 300)
        await requests.ask(other, 300)
        await requests.end(200)
        got = Counter(claim.client for claim in requests.served)
        assert got["a"] / got["b"] == pytest.approx(ratio, rel=0.05)


async def test_what_requests_took_counts_when_it_is_known() -> None:
    async with crowd() as requests:
        for client in "ab":
            await requests.ask(Claim(client=client, tokens=100), 300)
        for _ in range(200):
            await requests.end(took=300 if requests.open(Claim(client="a")) else 100)
        got = Counter(claim.client for claim in requests.served)
        assert got["b"] / got["a"] == pytest.approx(3, rel=0.05)
        share = requests.pool.shares.people
        assert share.expected("a", 10**9, 2) == pytest.approx(600) and share.expected("new", 400, 2) == 100 + 2 * 256


async def test_one_that_comes_back_has_neither_credit_nor_debt() -> None:
    async with crowd() as requests:
        await requests.ask(TRICKLE)
        await requests.ask(FLOOD, 200)
        await requests.end(100)
        await requests.ask(TRICKLE, 50)
        await requests.end(40)
        late = Counter(claim.client for claim in requests.served[-40:])
        assert abs(late["flood"] - late["trickle"]) <= 2


async def test_within_a_client_requests_are_served_in_order() -> None:
    async with crowd() as requests:
        claims = [Claim(client=client, key=(number, 0)) for number in range(50) for client in "ab"]
        for claim in claims:
            await requests.ask(claim)
        await requests.end(len(claims))
        for client in "ab":
            assert [one.key for one in requests.served if one.client == client] == [(n, 0) for n in range(50)]


async def test_while_others_are_there_a_client_leaves_them_a_reserve() -> None:
    now = 0.0
    async with crowd(places=16, clock=lambda: now) as requests:
        await requests.ask(FLOOD, 100)
        assert requests.open(FLOOD) == 32, "alone it has all places, those of the replica's queue too"
        await requests.ask(TRICKLE)
        assert not requests.open(TRICKLE)
        await requests.end(1)
        assert requests.open(TRICKLE) == 1, "the first place that is free"
        await requests.end(18)
        assert (requests.open(FLOOD), requests.open(TRICKLE)) == (13, 1), "no more than 7/8 of what the batch holds"
        await requests.ask(TRICKLE, 2)
        assert requests.open(TRICKLE) == 3, "at once"
        now += PRESENT_S + 1
        await requests.end(requests.open(FLOOD))
        await requests.end(3)
        assert not requests.open(TRICKLE)
        now += PRESENT_S + 1
        await requests.ask(FLOOD)
        assert requests.open(FLOOD) == 32, "the others have gone"


async def test_clients_that_all_have_their_share_leave_the_reserve_to_who_has_less() -> None:
    async with crowd(places=16) as requests:
        await requests.ask(TRICKLE)
        await requests.end(1)
        for client in "ab":
            await requests.ask(Claim(client=client), 100)
        await requests.end(50)
        assert requests.open(Claim(client="a")) == requests.open(Claim(client="b")) == 7
        await requests.ask(TRICKLE)
        assert requests.open(TRICKLE) == 1


async def test_batch_work_never_starves() -> None:
    work = Claim(client="night", batch=True)
    async with crowd() as requests:
        await requests.ask(FLOOD, 200)
        await requests.ask(work, 200)
        await requests.end(160)
        got = [claim.batch for claim in requests.served]
        assert sum(got) == 160 // BATCH_EVERY
    async with crowd(places=8) as requests:
        # So many that each has less than its share: they take the reserve, and none of them waits.
        for number in range(40):
            await requests.ask(Claim(client=f"early {number}"))
        await requests.end(32)
        await requests.ask(work, 5)
        for number in range(3 * BATCH_EVERY):
            await requests.ask(Claim(client=str(number)))
            await requests.end(1)
        assert sum(claim.batch for claim in requests.served) >= 2


async def test_who_fills_the_queue_makes_way_for_others_and_for_no_request_of_its_own() -> None:
    async with crowd(max_waiting=20) as requests:
        flood = await requests.ask(FLOOD, 21)
        (one_more,) = await requests.ask(FLOOD)
        assert not flood[-1].done()
        trickle = await requests.ask(TRICKLE, 10)
        for task, message in ((one_more, "20 sequences for 'm' wait"), (flood[-1], "most waiting makes way")):
            await asyncio.wait([task], timeout=1)
            with pytest.raises(ApiError, match=message) as refused:
                task.result()
            assert refused.value.status == 429
        (late,) = await requests.ask(TRICKLE)
        await asyncio.wait([late], timeout=1)
        with pytest.raises(ApiError, match="20 sequences"):
            late.result()
        await requests.end(20)
        await asyncio.wait([flood[0], *trickle], timeout=1)
        assert not any(task.exception() for task in (flood[0], *trickle))
        assert requests.pool.queue.refused == {"too many": 2, "made way": 10}


async def test_who_has_little_waiting_is_not_refused_for_what_others_have() -> None:
    now = 0.0
    pool = ReplicaPool("m", QueueLimits(5000, 10.0, 60.0), clock=lambda: now)
    pool.update([published("a", ReplicaLoad(), capacity=1, max_running=1)])
    held = await pool.acquire(FLOOD)
    flood = [asyncio.create_task(pool.acquire(FLOOD)) for _ in range(100)]
    await asyncio.sleep(0)
    for _ in range(40):  # two a second are taken
        now += 0.5
        pool.release(held, FLOOD)
        await asyncio.sleep(0)
    with pytest.raises(ApiError, match="60 sequences for 'm' wait already"):
        await pool.acquire(FLOOD)
    trickle = asyncio.create_task(pool.acquire(TRICKLE))
    await asyncio.sleep(0)
    pool.release(held, FLOOD)
    await asyncio.sleep(0)
    pool.release(held, FLOOD)
    assert (await asyncio.wait_for(trickle, 1)) is held
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)


async def test_what_is_before_a_request_is_what_is_served_before_it() -> None:
    rng = random.Random(3)
    for _ in range(30):
        async with crowd() as requests:
            clients = [Claim(client=name, weight=rng.choice((1, 2, 5)), tokens=rng.choice((50, 400))) for name in "abc"]
            for _ in range(60):
                await requests.ask(rng.choice(clients))
            asking = rng.choice(clients)
            before = requests.pool.queue._before(asking)
            mine = dataclasses.replace(asking, key=(1, 1))
            await requests.ask(mine)
            await requests.end(61)
            assert requests.served.index(mine) - 1 == pytest.approx(before, abs=len(clients))


async def test_counts_return_to_zero_whatever_happens_to_several_clients() -> None:
    pool, rng = ReplicaPool("m", QueueLimits(30, 0.05, 0.05)), random.Random(4)
    pool.update([published(name, capacity=4, max_running=2) for name in "ab"])
    claims = [
        Claim(rng.choice((1, 1, 2, 3)), client=rng.choice("xyz"), batch=rng.random() < 0.3, weight=2, tokens=70)
        for _ in range(80)
    ]

    async def request(claim: Claim) -> None:
        replica = await pool.acquire(claim)
        try:
            await asyncio.sleep(rng.random() / 200)
            pool.shares.settle(claim, rng.randrange(200))
        finally:
            pool.release(replica, claim)

    tasks = [asyncio.create_task(request(claim)) for claim in claims]
    for task in rng.sample(tasks, 20):
        asyncio.get_running_loop().call_later(rng.random() / 50, task.cancel)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert pool.shares.open == pool.queue.waiting == 0 == sum(one.in_flight for one in pool.replicas)
    for claim in claims:
        client = pool.shares.of(claim).client(claim)
        assert client.open == client.waiting == client.waiting_tokens == 0
