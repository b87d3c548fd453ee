"""How processes tell each other what they have used; a step is what happens within half a second."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from serve_app.accounts import sharing
from serve_app.accounts.limiter import Limiter
from serve_app.accounts.sharing import Sharing
from serve_app.compat import kv_store
from serve_app.config.keys import KeyConfig
from serve_app.http.errors import ApiError
from serve_app.replica import ledger
from serve_app.replica.ledger import Account, Ledger, Used, current

NOON = 20_000 * 86_400 + 43_200.0
DAY = 86_400


class Cluster:
    """A clock and a key-value store that processes have in common."""

    def __init__(self) -> None:
        self.now = NOON
        self.facts: dict[str, Any] = {}
        self.broken = False

    def time(self) -> float:
        return self.now

    def write(self, key: str, fact: Any) -> None:
        self.check()
        self.facts[key] = json.loads(json.dumps(fact))

    def read_all(self, prefix: str) -> dict[str, Any]:
        self.check()
        return {key: copy.deepcopy(fact) for key, fact in self.facts.items() if key.startswith(prefix)}

    def erase(self, key: str) -> None:
        del self.facts[key]

    def check(self) -> None:
        if self.broken:
            raise ConnectionError("no GCS")


class Process:
    def __init__(self, cluster: Cluster, key: KeyConfig, of: int) -> None:
        self.key = key
        self.limiter = Limiter([key], lambda: of, cluster.time)
        self.sharing = Sharing(self.limiter, "app")

    def admitted(self, count: int) -> int:
        """How many of so many requests come in; they stay open."""
        passed = 0
        for _ in range(count):
            try:
                self.limiter.admit(self.key, 0)
                passed += 1
            except ApiError as error:
                assert error.status == 429
        return passed


async def step(cluster: Cluster, *processes: Process, forward_s: float = sharing.STEP_S) -> None:
    cluster.now += forward_s
    number = int(cluster.now // sharing.STEP_S)
    for process in processes:
        await process.sharing._tell(number)
    for process in processes:
        await process.sharing._learn(number)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    for name in ("write", "read_all", "erase"):
        monkeypatch.setattr(kv_store, name, getattr(cluster, name))
    monkeypatch.setattr(sharing.time, "time", cluster.time)
    return cluster


async def test_what_one_process_does_not_use_another_may(cluster: Cluster) -> None:
    key = KeyConfig(name="a", key="k", requests_per_minute=60)
    busy, idle = Process(cluster, key, 2), Process(cluster, key, 2)
    total = busy.admitted(100)
    for _ in range(6):
        await step(cluster, busy, idle)
        total += busy.admitted(100)
    assert total in range(58, 62) and idle.admitted(10) <= 1


async def test_a_process_that_starts_goes_on_with_the_day_of_one_that_was_killed(cluster: Cluster) -> None:
    key = KeyConfig(name="a", key="k", requests_per_day=10, parallel=9)
    killed = Process(cluster, key, 1)
    assert killed.admitted(7) == 7
    await step(cluster, killed)
    after = Process(cluster, key, 1)
    cluster.now += sharing.GONE_AFTER * sharing.STEP_S
    await after.sharing.start()
    assert after.admitted(9) == 3, "the day is the same, and what was open is open no longer"
    await step(cluster, after, forward_s=DAY)
    assert after.admitted(9) == 6, "a new day; three of nine are open still"


async def test_without_the_store_each_process_goes_on_with_its_part(cluster: Cluster) -> None:
    key = KeyConfig(name="a", key="k", requests_per_minute=60)
    one, other = Process(cluster, key, 2), Process(cluster, key, 2)
    cluster.broken = True
    assert one.admitted(100) == other.admitted(100) == 30
    await step(cluster, one, other)
    cluster.broken = False
    await step(cluster, one, other)
    assert one.admitted(100) + other.admitted(100) <= 4


async def test_tokens_count_as_replicas_tell_them_and_are_forgotten_with_their_day(cluster: Cluster) -> None:
    replica = Ledger("m", cluster.time)
    with replica.account(Account("a")):
        current.get().sequences.append(lambda: Used(prompt=500, output=600))
    cluster.write(ledger.prefix("app") + "replica", replica.fact())
    process = Process(cluster, KeyConfig(name="a", key="k", tokens_per_day=1000), 1)
    await process.sharing.start()
    assert process.admitted(1) == 0
    await step(cluster, process, forward_s=DAY)
    assert process.admitted(1) == 1 and len(cluster.facts) == 2, "a day that is over may be asked for still"
    await step(cluster, process, forward_s=DAY)
    assert not cluster.read_all(ledger.prefix("app"))
