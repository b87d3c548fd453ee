"""When replicas that were ordered will be there, and what is refused meanwhile."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from serve_app.autoscaling import coming
from serve_app.autoscaling.coming import StartupWatch
from serve_app.autoscaling.policy import Observation, Policy
from serve_app.autoscaling.refused import RefusedRate
from serve_app.compat import kv_store
from serve_app.config.schema import Autoscaling, ModelConfig
from serve_app.replica.failed_starts import NodeStarts
from serve_app.replica.protocol import ReplicaSignals


def test_nobody_knows_when_before_one_has_started() -> None:
    watch = StartupWatch(None)
    assert watch.ready_in_s(0.0, 3, 1) is None
    assert watch.ready_in_s(12.0, 3, 3) is None
    assert watch.ready_in_s(20.0, 4, 3) == 12.0, "as the last ones took"
    assert watch.ready_in_s(25.0, 4, 3) == 7.0
    assert watch.ready_in_s(50.0, 4, 3) == 0.0, "late"


def test_the_configuration_knows_until_it_is_seen() -> None:
    watch = StartupWatch(30.0)
    assert watch.ready_in_s(0.0, 2, 1) == 30.0
    assert watch.ready_in_s(10.0, 2, 2) is None
    assert watch.ready_in_s(20.0, 3, 2) == 10.0


def test_an_order_that_is_taken_back_teaches_nothing() -> None:
    watch = StartupWatch(30.0)
    watch.ready_in_s(0.0, 2, 1)
    assert watch.ready_in_s(1.0, 1, 1) is None
    assert watch.ready_in_s(5.0, 2, 1) == 30.0


def test_refusals_are_counted_over_the_time_that_rates_look_back() -> None:
    rate = RefusedRate()
    found = [rate.add(at / 2, total) for at, total in enumerate((0, 5, 10, 15, 20, 20, 20, 20, 20))]
    assert found[4] == pytest.approx(10.0) and found[-1] == 0.0


def test_what_is_refused_is_demand() -> None:
    """An ingress that sends most of a spike away looks, from the replicas and the queue, like a steady full house."""
    settings = Autoscaling(min_replicas=1, max_replicas=20, upscale_delay_s=2.0, startup_s=20.0)
    signals = ReplicaSignals(running=32, waiting=0, output_tokens_per_s=900, arrivals_per_s=8, service_s=4)
    wanted = {}
    for refused in (0.0, 40.0):
        policy = Policy(settings, max_running=32)
        target = 1
        for step in range(40):
            calm = replace(signals, running=4, arrivals_per_s=1)
            seen = Observation(step / 2, (calm if step < 10 else signals,), target, 8 if step >= 10 else 0)
            target = policy.decide(replace(seen, refused_per_s=refused if step >= 10 else 0.0)).replicas
        wanted[refused] = target
    assert wanted[40.0] >= 8 > wanted[0.0], "48 requests/s of 4 s each are 192 at a time, at 22 a replica"


def test_all_are_there_when_the_last_that_was_ordered_is() -> None:
    watch = StartupWatch(30.0)
    watch.ready_in_s(0.0, 2, 1)
    assert watch.ready_in_s(10.0, 4, 1) == 30.0
    assert watch.ready_in_s(30.0, 4, 2) == 10.0
    watch.ready_in_s(45.0, 4, 4)
    assert watch.ready_in_s(50.0, 5, 4) == 35.0


COUNTS = {"ready_in_s": 5.0, "starting": 1, "ready": 1, "asleep": 0, "awake": 2}
NO_SESSION: Any = None
"""No model here may sleep, so nobody is told anything."""


async def test_who_fails_its_start_is_not_coming(monkeypatch: pytest.MonkeyPatch) -> None:
    facts: dict[str, Any] = {coming.state.keys("app", "m")[0]: {"replicas": COUNTS}}
    monkeypatch.setattr(kv_store, "read", facts.get)
    monkeypatch.setattr(
        kv_store, "read_all", lambda prefix: {key: fact for key, fact in facts.items() if key.startswith(prefix)}
    )
    monkeypatch.setattr(kv_store, "write", lambda key, fact: facts.update({key: fact}))
    monkeypatch.setattr(coming, "LOOK_S", 0.01)
    model = ModelConfig(id="m", engine="simulated", autoscaling=Autoscaling(max_replicas=2))
    pool = SimpleNamespace(queue=SimpleNamespace(waiting=1, coming=None))
    catalogue: Any = SimpleNamespace(models=[SimpleNamespace(config=model, pool=pool)])
    following = asyncio.create_task(coming.follow(catalogue, "app", NO_SESSION))
    try:
        async with asyncio.timeout(10):
            while pool.queue.coming is None:
                await asyncio.sleep(0.01)
            NodeStarts("app", model, "node").failed("no GPU", True, time.time())
            while pool.queue.coming is not None:
                await asyncio.sleep(0.01)
    finally:
        following.cancel()
