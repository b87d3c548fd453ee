"""Several ingress processes as one /metrics: whichever is asked, all are on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve_app.compat import kv_store
from serve_app.ingress import processes
from serve_app.ingress.processes import IngressProcesses
from serve_app.routing.metrics import Metrics, ObservedRequest


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The cluster's key-value store."""
    kept: dict[str, Any] = {}
    monkeypatch.setattr(kv_store, "write", kept.__setitem__)
    monkeypatch.setattr(kv_store, "erase", lambda key: kept.pop(key, None))
    monkeypatch.setattr(kv_store, "read_all", lambda prefix: {k: v for k, v in kept.items() if k.startswith(prefix)})
    return kept


class Process:
    """One ingress process, with what it counts."""

    def __init__(self, name: str, session: aiohttp.ClientSession, wanted: int = 2) -> None:
        self.metrics = Metrics()
        self.processes = IngressProcesses(("app", name), self.metrics.registry, session, lambda: wanted)

    def answered(self, count: int) -> None:
        for _ in range(count):
            with ObservedRequest(self.metrics, "m", "/v1/completions") as seen:
                seen.started(200, "")

    async def samples(self, name: str) -> dict[str, float]:
        """Of one metric, by ingress process."""
        families = text_string_to_metric_families((await self.processes.page()).decode())
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return {one.labels.get("ingress", ""): one.value for one in samples}


Start = Callable[..., Any]


@pytest.fixture
async def start(store: dict[str, Any]) -> AsyncIterator[Start]:
    async with aiohttp.ClientSession() as session:
        running: list[Process] = []

        async def process(name: str, wanted: int = 2) -> Process:
            running.append(Process(name, session, wanted))
            await running[-1].processes.start("127.0.0.1")
            return running[-1]

        yield process
        await asyncio.gather(*(one.processes.stop() for one in running))


REQUESTS, UP = "serve_app_requests_total", "serve_app_ingress_up"


async def test_every_process_shows_the_same(start: Start) -> None:
    first, second = await start("a"), await start("b")
    first.answered(3)
    second.answered(4)
    for one in (first, second):
        assert await one.samples(REQUESTS) == {"a": 3, "b": 4}
        assert await one.samples(UP) == {"a": 1, "b": 1}
    second.answered(1)
    assert await first.samples(REQUESTS) == {"a": 3, "b": 5}


async def test_a_process_alone_has_no_label(start: Start) -> None:
    alone = await start("a", 1)
    alone.answered(2)
    assert await alone.samples(REQUESTS) == {"": 2}
    assert await alone.samples(UP) == {}


async def test_one_that_left_is_gone(start: Start, store: dict[str, Any]) -> None:
    first, second = await start("a"), await start("b")
    await second.processes.stop()
    assert await first.samples(UP) == {"a": 1}
    assert list(store) == ["ingress/app/a"]


async def test_one_that_cannot_be_reached_is_told_and_given_up_in_the_end(
    start: Start, store: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await start("a")
    first.answered(1)
    lost = store["ingress/app/a"] | {"url": "http://127.0.0.1:1"}
    store["ingress/app/lost"] = lost
    assert await first.samples(UP) == {"a": 1, "lost": 0}
    assert await first.samples(REQUESTS) == {"a": 1}
    monkeypatch.setattr(processes, "GIVEN_UP_S", -1.0)
    assert await first.samples(UP) == {"a": 1}
    assert "ingress/app/lost" not in store


async def test_processes_of_another_application_are_not_shown(start: Start, store: dict[str, Any]) -> None:
    first = await start("a")
    store["ingress/other/b"] = store["ingress/app/a"]
    assert await first.samples(UP) == {"a": 1}


async def test_without_the_store_those_known_are_asked(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await start("a"), await start("b")
    second.answered(1)
    assert await first.samples(UP) == {"a": 1, "b": 1}

    def down(prefix: str) -> Any:
        raise ConnectionError("the GCS is away")

    monkeypatch.setattr(kv_store, "read_all", down)
    assert await first.samples(REQUESTS) == {"b": 1}
    assert await first.samples(UP) == {"a": 1, "b": 1}


async def test_nobody_without_the_token_is_answered(start: Start, store: dict[str, Any]) -> None:
    await start("a")
    async with aiohttp.ClientSession() as session, session.get(store["ingress/app/a"]["url"] + "/metrics") as answer:
        assert answer.status == 401
