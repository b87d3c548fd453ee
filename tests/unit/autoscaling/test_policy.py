"""How many replicas, for what is seen: the rules one by one, and traces of load over time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from serve_app.autoscaling.policy import Decision, Observation, Policy
from serve_app.config.schema import Autoscaling
from serve_app.replica.protocol import ReplicaSignals

MAX_RUNNING = 10
STEP_S = 0.5


def policy(**settings: Any) -> Policy:
    """A replica holds ten sequences and is meant to run five."""
    given = {"min_replicas": 1, "max_replicas": 20, "target_load": 0.5, "upscale_delay_s": 0, "downscale_delay_s": 0}
    return Policy(Autoscaling.model_validate(given | settings), MAX_RUNNING)


def decide(one: Policy, *replicas: ReplicaSignals, target: int | None = None, queued: float = 0) -> Decision:
    """The second time this is seen: the first time nothing has lasted yet."""
    there = len(replicas) if target is None else target
    one.decide(Observation(0.0, replicas, there, queued))
    return one.decide(Observation(1.0, replicas, there, queued))


class Model:
    """Replicas that take `startup_s` to start and share the requests evenly; follows its policy."""

    def __init__(self, one: Policy, target: int = 1, startup_s: float = 0.0) -> None:
        self.policy = one
        self.targets = [target]
        self._startup_s = startup_s
        self._ready_at = [0.0] * target
        self._now = 0.0

    def run(self, loads: Iterable[float], seconds: float = STEP_S) -> list[int]:
        """Each load, in requests, for a time; the targets decided meanwhile."""
        taken = len(self.targets)
        for load in loads:
            for _ in range(round(seconds / STEP_S)):
                self._step(load)
        return self.targets[taken:]

    def changes(self, loads: Iterable[float], seconds: float = STEP_S) -> list[tuple[int, int]]:
        """The same, as what became of what."""
        last = self.targets[-1]
        return [(a, b) for a, b in itertools.pairwise([last, *self.run(loads, seconds)]) if a != b]

    def _step(self, load: float) -> None:
        ready = sum(at <= self._now for at in self._ready_at)
        slots = ready * MAX_RUNNING
        running, beyond = min(load, slots), max(0.0, load - slots)
        waiting, queued = (beyond, 0.0) if ready else (0.0, beyond)
        replicas = (ReplicaSignals(running=running / ready, waiting=waiting / ready),) * ready if ready else ()
        target = self.policy.decide(Observation(self._now, replicas, self.targets[-1], queued)).replicas
        self.targets.append(target)
        del self._ready_at[target:]
        self._ready_at += [self._now + self._startup_s] * (target - len(self._ready_at))
        self._now += STEP_S


@pytest.mark.parametrize(
    ("settings", "seen", "queued", "cause", "need"),
    [
        ({}, ReplicaSignals(running=8), 0, "slots", 8 / 5),
        ({}, ReplicaSignals(running=8, waiting=4), 0, "slots", 12 / 5),
        ({}, ReplicaSignals(running=8, waiting=4), 8, "slots", 20 / 5),
        ({}, ReplicaSignals(running=4, kv_usage=0.9), 0, "kv_cache", 0.9 / 0.8),
        ({}, ReplicaSignals(running=4, waiting=8, kv_usage=0.96), 0, "kv_cache", 3 * 0.96 / 0.8),
        ({"target_kv_usage": 0.5}, ReplicaSignals(running=4, kv_usage=0.9), 0, "kv_cache", 0.9 / 0.5),
        ({"tokens_per_s": 100}, ReplicaSignals(running=4, output_tokens_per_s=250), 0, "tokens", 2.5),
        ({"ttft_target_s": 0.5}, ReplicaSignals(running=1, waiting=1, ttft_s=0.6), 0, "ttft", 1.2),
        ({"ttft_target_s": 0.5}, ReplicaSignals(running=1, waiting=1, ttft_s=9.0), 0, "ttft", 2),
        ({"target_load": 1}, ReplicaSignals(running=8, waiting=7, arrivals_per_s=5, service_s=1), 0, "queue", 1.5),
        ({"target_load": 1}, ReplicaSignals(running=8, waiting=99, arrivals_per_s=5, service_s=1), 0, "queue", 2),
    ],
)
def test_the_largest_need_decides(
    settings: dict[str, Any], seen: ReplicaSignals, queued: float, cause: str, need: float
) -> None:
    decision = decide(policy(**settings), seen, queued=queued)
    assert decision.needs[cause] == pytest.approx(need)
    assert decision.replicas == math.ceil(need)
    assert f"({cause})" in decision.reason


def test_replicas_add_up() -> None:
    one = ReplicaSignals(running=4, kv_usage=0.6, output_tokens_per_s=90)
    needs = decide(policy(tokens_per_s=100), one, one, one).needs
    assert needs == pytest.approx({"slots": 12 / 5, "kv_cache": 1.8 / 0.8, "tokens": 2.7, "queue": 0})


def test_a_slow_first_token_alone_is_no_reason_to_grow() -> None:
    assert decide(policy(ttft_target_s=0.5), ReplicaSignals(running=3, ttft_s=4.0)).needs["ttft"] == 0
    quick = ReplicaSignals(running=3, waiting=1, ttft_s=0.4)
    assert decide(policy(ttft_target_s=0.5), quick).needs["ttft"] == 0


def test_a_slow_first_token_orders_no_more_than_its_step_while_replicas_start() -> None:
    one = policy(ttft_target_s=0.5, target_load=1)
    slow = ReplicaSignals(running=5, waiting=1, ttft_s=5.0)
    targets = [4]
    for step in range(10):
        targets.append(one.decide(Observation(float(step), (slow,) * 4, targets[-1], 0)).replicas)
    assert targets[1:] == [4] + [8] * 9


def test_rounding_orders_no_replica() -> None:
    fractions = [ReplicaSignals(running=0.3)] * 50
    assert 15 < sum(one.running for one in fractions) < 15 + 1e-9
    assert decide(policy(), *fractions, target=1).replicas == 3


@pytest.mark.parametrize(("load", "kept"), [(4.4, 1), (4.8, 2)])
def test_a_replica_goes_only_if_the_others_have_room_to_spare(load: float, kept: int) -> None:
    assert Model(policy(downscale_delay_s=5), target=2).run([load], 20)[-1] == kept


def test_bounds_hold_and_are_named() -> None:
    high = decide(policy(max_replicas=2), ReplicaSignals(running=10, waiting=90))
    assert (high.replicas, high.needs["slots"]) == (2, 20) and "max_replicas is 2" in high.reason
    low = decide(policy(min_replicas=3), ReplicaSignals(running=1))
    assert low.replicas == 3 and "min_replicas is 3" in low.reason


def test_a_need_counts_once_it_has_lasted() -> None:
    model = Model(policy(upscale_delay_s=5, downscale_delay_s=60))
    model.run([1], 5)
    assert set(model.run([10], 5)) == {1}
    assert set(model.run([10], 5)) == {2}


def test_a_need_that_comes_and_goes_does_not_count() -> None:
    model = Model(policy(upscale_delay_s=5, downscale_delay_s=60))
    assert set(model.run([10, 10, 10, 2] * 20)) == {1}


def test_requests_that_queue_do_not_wait_for_the_delay() -> None:
    model = Model(policy(upscale_delay_s=30, downscale_delay_s=60))
    assert model.run([40])[0] == 8
    assert policy(upscale_delay_s=30).decide(Observation(0, (ReplicaSignals(running=9),), 1, queued=31)).replicas == 8


def test_a_few_that_wait_do_wait_for_the_delay() -> None:
    model = Model(policy(upscale_delay_s=30, downscale_delay_s=60))
    assert model.run([11])[0] == 1


@pytest.mark.parametrize("startup_s", [0, 10, 100])
def test_a_spike_is_ordered_once_however_long_replicas_start(startup_s: float) -> None:
    model = Model(policy(upscale_delay_s=5, downscale_delay_s=60), startup_s=startup_s)
    model.run([5], 30)
    assert model.changes([30], 120) == [(1, 6)] and model.targets[-1] == 6


def test_a_ramp_is_followed_up_and_down_without_a_step_back() -> None:
    model = Model(policy(upscale_delay_s=2, downscale_delay_s=20), startup_s=3)
    up = model.run(range(1, 60), 4)
    assert up == sorted(up) and up[-1] == 12
    down = model.run(range(60, 0, -1), 4)
    assert down == sorted(down, reverse=True) and down[-1] == 2


@pytest.mark.parametrize("half_period_s", [2, 6, 25])
def test_oscillating_load_does_not_flap(half_period_s: float) -> None:
    model = Model(policy(upscale_delay_s=2, downscale_delay_s=30), startup_s=3)
    model.run([30], 10)
    assert model.changes([30, 2] * 10, half_period_s) == []


def test_nothing_goes_within_the_down_delay_of_having_come() -> None:
    model = Model(policy(upscale_delay_s=2, downscale_delay_s=30))
    model.run([20], 3)
    assert model.targets[-1] == 4
    assert set(model.run([1], 29)) == {4}
    assert model.run([1], 3)[-1] == 1


def test_it_goes_down_to_what_was_needed_lately_not_further() -> None:
    model = Model(policy(upscale_delay_s=0, downscale_delay_s=30))
    model.run([50], 10)
    assert model.run([18], 10) + model.run([4], 19) == [10] * 58
    assert model.changes([4], 60) == [(10, 4), (4, 1)]


def test_short_needs_bring_no_replicas_and_keep_those_there_are() -> None:
    short = [4, 4, 4, 4, 4, 8] * 20
    assert Model(policy(upscale_delay_s=2, downscale_delay_s=20), target=1).changes(short) == []
    assert Model(policy(upscale_delay_s=2, downscale_delay_s=20), target=6).changes(short) == [(6, 2)]


def test_what_runs_when_the_policy_starts_anew_is_kept_for_the_down_delay() -> None:
    model = Model(policy(downscale_delay_s=30), target=7)
    assert set(model.run([0], 30)) == {7}
    assert model.run([0], 2)[-1] == 1


def test_to_zero_after_the_down_delay_and_back_at_once() -> None:
    model = Model(policy(min_replicas=0, upscale_delay_s=5, downscale_delay_s=20), startup_s=10)
    model.run([3], 5)
    assert set(model.run([0], 20)) == {1} and model.run([0], 2)[-1] == 0
    assert set(model.run([0], 100)) == {0}
    assert model.run([1])[0] == 1
    assert set(model.run([1], 20)) == {1}


def test_a_lone_request_keeps_the_last_replica_for_the_down_delay_only() -> None:
    one = policy(min_replicas=0, downscale_delay_s=3)
    for at in range(10):
        there = at < 2
        signals = ReplicaSignals(running=there, arrivals_per_s=there / 2, service_s=0.5 * there)
        decision = one.decide(Observation(at, (signals,), 1, 0))
        assert decision.replicas == (at < 5)


def test_any_use_keeps_the_last_replica() -> None:
    model = Model(policy(min_replicas=0, upscale_delay_s=0, downscale_delay_s=20))
    assert set(model.run([0.01], 60)) == {1}


def test_a_model_that_starts_is_not_given_up_when_its_client_is() -> None:
    model = Model(policy(min_replicas=0, downscale_delay_s=5), target=0, startup_s=60)
    model.run([1], 5)
    assert set(model.run([0], 40)) == {1}


def test_replicas_that_have_not_reported_change_nothing() -> None:
    busy = ReplicaSignals(running=5)
    one = policy(downscale_delay_s=10)
    silent = [one.decide(Observation(at, (), 6, 0)) for at in range(60)]
    assert {each.replicas for each in silent} == {6} and "no replica has reported" in silent[0].reason
    some = [one.decide(Observation(60 + at, (busy,) * 4, 6, 0)) for at in range(9)]
    assert {each.replicas for each in some} == {6}


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda one: decide(one, ReplicaSignals()), "nothing to do"),
        (lambda one: decide(one, ReplicaSignals(running=8, waiting=4)), "12.0 requests at 5 a replica: 2.4 (slots)"),
        (lambda one: decide(one, ReplicaSignals(running=8)), "counts once it has lasted 60 s"),
        (lambda one: decide(one, ReplicaSignals(running=4), target=3), "3 were needed within the last 60 s"),
    ],
)
def test_the_reason_is_told(act: Callable[[Policy], Decision], told: str) -> None:
    assert told in act(policy(upscale_delay_s=60, downscale_delay_s=60)).reason
