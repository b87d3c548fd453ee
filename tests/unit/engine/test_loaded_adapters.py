"""Which adapters are in an engine's memory while requests come for more than there is room for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from serve_app.adapters.adapter import Adapter
from serve_app.engine.adapters.loaded import AdapterUnusable, LoadedAdapters
from serve_app.http.errors import ApiError

A, B, C, D = (Adapter(name, f"/{name}") for name in "abcd")
BROKEN = Adapter("broken", "/broken")


class Loader:
    """Notes what is loaded and unloaded, and that nothing is twice or too much."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.there: set[Adapter] = set()
        self.history: list[str] = []

    async def load(self, adapter: Adapter) -> None:
        await asyncio.sleep(0)
        if adapter is BROKEN:
            self.history.append("?broken")
            raise AdapterUnusable("its file is broken")
        assert adapter not in self.there
        self.there.add(adapter)
        assert len(self.there) <= self.most
        self.history.append("+" + adapter.id)

    async def unload(self, adapter: Adapter) -> None:
        self.there.remove(adapter)
        self.history.append("-" + adapter.id)
        await asyncio.sleep(0)


def loaded(most: int) -> tuple[LoadedAdapters, Loader]:
    return LoadedAdapters(most, loader := Loader(most), "m"), loader


async def once(adapters: LoadedAdapters, one: Adapter, work: Callable[[], Awaitable[object]] | None = None) -> None:
    async with adapters.use(one):
        if work is not None:
            await work()


async def test_the_one_used_longest_ago_leaves() -> None:
    adapters, loader = loaded(2)
    for one in (A, B, A, C, A, B):
        await once(adapters, one)
    assert loader.history == ["+a", "+b", "-b", "+c", "-c", "+b"]
    assert adapters.ids == ("a", "b") and adapters.counts.loads.total() == 4


async def test_many_requests_load_it_once() -> None:
    adapters, loader = loaded(2)
    await asyncio.gather(*(once(adapters, one) for one in (A, B) * 50))
    assert sorted(loader.history) == ["+a", "+b"]


async def test_what_is_in_use_stays_and_a_newcomer_gets_its_turn_however_busy_others_are() -> None:
    adapters, loader = loaded(1)
    done = asyncio.Event()
    first = asyncio.create_task(once(adapters, A, done.wait))
    await asyncio.sleep(0.01)
    newcomer = asyncio.create_task(once(adapters, B))
    await asyncio.sleep(0.01)
    behind = asyncio.create_task(once(adapters, A))
    await asyncio.sleep(0.01)
    assert loader.history == ["+a"] and not newcomer.done() and not behind.done()
    done.set()
    await asyncio.gather(first, newcomer, behind)
    assert loader.history == ["+a", "-a", "+b", "-b", "+a"]


async def test_a_newcomer_that_leaves_leaves_all_as_it_was() -> None:
    adapters, loader = loaded(1)
    done = asyncio.Event()
    first = asyncio.create_task(once(adapters, A, done.wait))
    await asyncio.sleep(0.01)
    newcomer = asyncio.create_task(once(adapters, B))
    await asyncio.sleep(0.01)
    newcomer.cancel()
    await asyncio.gather(newcomer, return_exceptions=True)
    await asyncio.wait_for(once(adapters, A), 1)
    done.set()
    await first
    assert loader.history == ["+a"]


async def test_a_broken_one_costs_only_itself() -> None:
    adapters, loader = loaded(1)
    await once(adapters, A)
    for _ in range(2):
        with pytest.raises(ApiError, match="'broken' cannot be used: its file is broken") as refused:
            await once(adapters, BROKEN)
        assert refused.value.status == 400
    assert loader.history == ["+a", "-a", "?broken"], "it is not tried again at once"
    await once(adapters, B)
    assert adapters.ids == ("b",)


async def test_all_get_theirs_when_more_are_wanted_than_there_is_room_for() -> None:
    adapters, loader = loaded(2)

    async def work() -> None:
        await asyncio.sleep(0.001)

    await asyncio.wait_for(asyncio.gather(*(once(adapters, one, work) for one in (A, B, C, D) * 25)), 20)
    assert len(loader.there) == 2


async def test_what_is_asked_and_loaded_is_counted_by_adapter() -> None:
    adapters, _ = loaded(1)
    counts, registry = adapters.counts, CollectorRegistry()
    registry.register(counts)
    seen = []

    async def look() -> None:
        seen.append(dict(counts.open))

    busy = asyncio.create_task(once(adapters, A, lambda: asyncio.sleep(0.01)))
    waiting = asyncio.create_task(once(adapters, B, look))
    await asyncio.sleep(0.005)
    assert counts.open == {"a": 1, "b": 1}, "one that waits for its adapter is open"
    await asyncio.gather(busy, waiting)
    with pytest.raises(ApiError):
        await once(adapters, BROKEN)
    await once(adapters, B)
    assert seen == [{"b": 1}] and counts.open == {}
    assert counts.requests == {"a": 1, "b": 2, "broken": 1} and counts.loads == {"a": 1, "b": 2}
    text = generate_latest(registry).decode()
    assert 'serve_app_adapter_requests_total{adapter="b",model="m"} 2.0' in text
    assert 'serve_app_adapter_loads_total{adapter="a",model="m"} 1.0' in text
    assert 'serve_app_adapter_load_seconds_total{adapter="a",model="m"}' in text
