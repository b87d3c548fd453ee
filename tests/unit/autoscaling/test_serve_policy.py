"""The policy as Ray Serve holds it: unpickled, built from keywords, asked ten times a second."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from serve_app.autoscaling import queued, state
from serve_app.autoscaling.serve_policy import PERIOD_S, signals
from serve_app.config.schema import ModelConfig
from serve_app.engine.deployment import number_of_replicas
from serve_app.replica.protocol import ReplicaSignals

MODEL = "owner/m"


class Desk:
    """Stands for the background store, whose thread needs a cluster."""

    def __init__(self) -> None:
        self.waiting: dict[tuple[str, str], int] = {}
        self.written: dict[str, Any] = {}

    def outside(self, app: str, model: str) -> queued.Outside:
        return queued.Outside(self.waiting.get((app, model), 0), 0.0)

    def write(self, key: str, fact: Any) -> None:
        self.written[key] = json.loads(json.dumps(fact))


class Clock:
    """`time`, as serve_policy reads it."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    time = monotonic


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk()
    monkeypatch.setattr(queued, "shared", desk)
    monkeypatch.setattr(state, "_changes", {})
    return desk


def build(clock: Clock, **autoscaling: Any) -> Callable[[AutoscalingContext], tuple[int, dict[str, Any]]]:
    """The policy of a model, by the way Serve takes."""
    bounds = {"min_replicas": 0, "max_replicas": 8, "target_load": 0.5, "upscale_delay_s": 0, **autoscaling}
    model = ModelConfig.model_validate({"id": MODEL, "max_running": 10, "autoscaling": bounds})
    scaling = number_of_replicas(model)["autoscaling_config"]
    assert isinstance(scaling, AutoscalingConfig)
    config = scaling.policy
    again = AutoscalingPolicy.from_serialized_policy_def(config.model_dump(), config.get_serialized_policy_def())
    policy = again.get_policy()(**config.policy_kwargs)
    type(policy).__call__.__globals__["time"] = clock
    return policy


def context(target: int, *reported: ReplicaSignals, silent: int = 0) -> AutoscalingContext:
    names = [f"r{number}" for number in range(len(reported) + silent)]
    metrics: dict[str, dict[str, float]] = {}
    for name, one in zip(names, reported, strict=False):
        for signal, value in one.to_dict().items():
            metrics.setdefault(signal, {})[name] = value
    return AutoscalingContext(
        deployment_id=None,
        deployment_name="m",
        app_name="app",
        current_num_replicas=len(names),
        target_num_replicas=target,
        running_replicas=names,
        total_num_requests=0,
        total_queued_requests=0,
        aggregated_metrics=lambda: metrics,
        raw_metrics={},
        capacity_adjusted_min_replicas=0,
        capacity_adjusted_max_replicas=8,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=None,
        config=None,
    )


def test_signals_are_read_for_each_replica_that_has_reported() -> None:
    one = ReplicaSignals(running=3, waiting=1, kv_usage=0.5, output_tokens_per_s=70, ttft_s=0.2)
    other = ReplicaSignals(running=5)
    assert signals(context(4, one, other, silent=2)) == (one, other)
    assert signals(context(4)) == ()


def test_it_follows_what_replicas_report(desk: Desk) -> None:
    clock = Clock()
    policy = build(clock)
    assert policy(context(1, ReplicaSignals(running=9)))[0] == 1
    clock.now += PERIOD_S
    assert policy(context(1, ReplicaSignals(running=9)))[0] == 2
    clock.now += PERIOD_S
    more = context(2, ReplicaSignals(running=10, waiting=5), ReplicaSignals())
    assert policy(more)[0] == 2, "the second has just come"
    clock.now += 10
    assert policy(more)[0] == 3


def test_queued_requests_of_its_model_and_application_wake_it(desk: Desk) -> None:
    clock = Clock()
    policy = build(clock)
    desk.waiting = {("app", "another"): 3, ("another", MODEL): 3}
    assert policy(context(0))[0] == 0
    clock.now += PERIOD_S
    desk.waiting["app", MODEL] = 1
    assert policy(context(0))[0] == 1


def test_between_two_reports_it_repeats_itself(desk: Desk) -> None:
    clock = Clock()
    policy = build(clock)
    assert policy(context(0))[0] == 0
    desk.waiting["app", MODEL] = 1
    clock.now += PERIOD_S / 2
    assert policy(context(0))[0] == 0


def test_what_it_says_can_be_read(desk: Desk) -> None:
    clock = Clock()
    policy = build(clock)
    desk.waiting["app", MODEL] = 7
    one = ReplicaSignals(running=8, waiting=2, kv_usage=0.5, output_tokens_per_s=90, ttft_s=0.25, arrivals_per_s=1.5)
    policy(context(1, one))
    present, past = state.keys("app", MODEL)
    told = desk.written[present]
    assert told["bounds"] == {"min": 0, "max": 8}
    counts = {"ready": 1, "reporting": 1, "starting": 3, "target": 4, "ready_in_s": None, "asleep": 0, "awake": 4}
    assert told["replicas"] == counts
    assert told["inputs"] == {
        "running": 8,
        "waiting": 2,
        "held": 7,
        "kv_usage": 0.5,
        "output_tokens_per_s": 90,
        "ttft_s": 0.25,
        "arrivals_per_s": 1.5,
        "refused_per_s": 0,
        "service_s": 0,
    }
    assert told["needs"]["slots"] == 17 / 5 and told["decision"] == 4 and "17.0 requests" in told["reason"]
    assert [(change["from"], change["to"]) for change in desk.written[past]] == [(1, 4)]


def test_a_state_without_news_is_written_once_a_second_and_changes_when_they_come(desk: Desk) -> None:
    clock = Clock()
    policy = build(clock)
    present, past = state.keys("app", MODEL)
    seen = []
    for _ in range(40):
        desk.written.clear()
        policy(context(1, ReplicaSignals(running=1)))
        seen.append(present in desk.written)
        assert past not in desk.written
        clock.now += 0.1
    assert 3 <= sum(seen) <= 5


def test_changes_outlive_a_redeployment_and_are_bounded(desk: Desk) -> None:
    _, past = state.keys("app", MODEL)
    for number in range(state.CHANGES):
        policy = build(Clock())
        desk.waiting["app", MODEL] = 5 * (1 + number % 2)
        policy(context(0))
    assert len(desk.written[past]) == state.CHANGES
    policy(context(0))
    assert {change["to"] for change in desk.written[past]} == {1, 2}
