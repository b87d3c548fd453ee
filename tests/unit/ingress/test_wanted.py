"""How many replicas are wanted, as the policies wrote it down."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from serve_app.autoscaling import state
from serve_app.compat import kv_store
from serve_app.config.schema import ModelConfig
from serve_app.ingress import wanted
from serve_app.ingress.wanted import Wanted

MODELS = [
    ModelConfig.model_validate({"id": "fixed", "replicas": 3}),
    ModelConfig.model_validate({"id": "scaled", "autoscaling": {"min_replicas": 1, "max_replicas": 4, "standby": 1}}),
]


async def test_what_a_policy_decides_is_shown_and_kept_while_the_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    store: dict[str, Any] = {}
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def read(key: str) -> Any:
        loop.call_soon_threadsafe(asked.set)
        if "away" in store:
            raise ConnectionError("the GCS is away")
        return store.get(key)

    monkeypatch.setattr(kv_store, "read", read)
    monkeypatch.setattr(wanted, "LOOK_S", 0.01)
    registry = CollectorRegistry()
    registry.register(collector := Wanted("app", MODELS))
    watching = asyncio.create_task(collector.watch())

    async def looked() -> None:
        for _ in range(3):
            asked.clear()
            await asyncio.wait_for(asked.wait(), 10)

    def told(name: str, model: str) -> float | None:
        return registry.get_sample_value(f"serve_app_replicas_{name}", {"model": model})

    await looked()
    assert (told("wanted", "fixed"), told("wanted", "scaled")) == (3, 2)
    assert told("ready_in_seconds", "scaled") is None
    store[state.keys("app", "scaled")[0]] = {"replicas": {"target": 4, "ready_in_s": 7.5}}
    await looked()
    assert (told("wanted", "scaled"), told("ready_in_seconds", "scaled")) == (4, 7.5)
    store["away"] = True
    await looked()
    assert (told("wanted", "scaled"), told("wanted", "fixed")) == (4, 3) and not watching.done()
    watching.cancel()
