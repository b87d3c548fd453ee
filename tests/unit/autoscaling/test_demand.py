"""Demand from arrivals: what queues and start-up times do not distort."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import pytest

from serve_app.autoscaling.demand import Estimator, Observation, Totals
from serve_app.autoscaling.policy import Policy
from serve_app.config.schema import Autoscaling
from serve_app.engine.meter import Meter
from serve_app.replica.protocol import LOOK_BACK_S, ReplicaSignals

MAX_RUNNING = 10
SLOTS = 7.0
SERVICE_S = 4.0
STEP_S = 0.5


class Replica:
    """What one holds, and what it says of it: means over LOOK_BACK_S, as Serve makes them."""

    def __init__(self) -> None:
        self.there = 0.0
        self._meter = Meter()
        self._said: deque[list[float]] = deque(maxlen=round(LOOK_BACK_S / STEP_S))

    def step(self, now: float, accepted: float) -> ReplicaSignals:
        self.there += accepted
        running = min(MAX_RUNNING, self.there)
        waiting = self.there - running
        ended = running * STEP_S / SERVICE_S
        self.there -= ended
        self._meter.add(now, services_s=[SERVICE_S] if ended > 0.01 else [], arrivals=round(1000 * accepted))
        service_s = self._meter.service_s(now)
        self._said.append([running, waiting, self._meter.arrivals_per_s(now) / 1000, service_s])
        means = [sum(values) / len(self._said) for values in zip(*self._said, strict=True)]
        return ReplicaSignals(running=means[0], waiting=means[1], arrivals_per_s=means[2], service_s=service_s)


@dataclass
class Fluid:
    """Requests as a fluid: those a replica got stay in its queue, new ones go where there is room."""

    policy: Policy
    startup_s: float
    target: int = 1
    now: float = 0.0
    held: float = 0.0
    replicas: list[Replica] = field(default_factory=lambda: [Replica()])
    starts: list[float] = field(default_factory=list)

    def run(self, arrivals_per_s: float, seconds: float) -> list[int]:
        """The targets decided meanwhile."""
        return [self._step(arrivals_per_s) for _ in range(round(seconds / STEP_S))]

    def _step(self, arrivals_per_s: float) -> int:
        self.now += STEP_S
        self.replicas += [Replica() for at in self.starts if at <= self.now]
        self.starts = [at for at in self.starts if at > self.now]
        self.held += arrivals_per_s * STEP_S
        room = [max(0.1, MAX_RUNNING - replica.there) for replica in self.replicas]
        signals = [
            replica.step(self.now, self.held * share / sum(room))
            for replica, share in zip(self.replicas, room, strict=True)
        ]
        if self.replicas:
            self.held = 0.0
        self.target = self.policy.decide(Observation(self.now, tuple(signals), self.target, self.held)).replicas
        self.starts += [self.now + self.startup_s] * (self.target - len(self.replicas) - len(self.starts))
        del self.replicas[self.target :]
        del self.starts[max(0, self.target - len(self.replicas)) :]
        return self.target


def model(startup_s: float, **settings: object) -> Fluid:
    given = {"max_replicas": 50, "target_load": SLOTS / MAX_RUNNING, "upscale_delay_s": 5, "downscale_delay_s": 60}
    return Fluid(Policy(Autoscaling.model_validate(given | settings), MAX_RUNNING), startup_s)


@pytest.mark.parametrize("startup_s", [5, 30, 120])
def test_a_spike_is_met_with_what_it_needs_however_long_its_queue_grows(startup_s: float) -> None:
    fluid = model(startup_s)
    assert set(fluid.run(1.5, 60)) == {1}
    spike = fluid.run(9, 5)
    assert spike[-1] == 6, "36 requests in progress at 7 a replica, known before any replica has started"
    assert set(fluid.run(9, 3 * startup_s + 60)) == {6}


def test_a_fall_in_arrivals_is_seen_although_a_queue_is_left() -> None:
    fluid = model(60, downscale_delay_s=5)
    fluid.run(1.5, 60)
    fluid.run(9, 20)
    assert fluid.run(1.5, 15)[-1] <= 2


def test_replicas_stay_while_they_work_off_what_they_have() -> None:
    fluid = model(5, min_replicas=0, downscale_delay_s=5)
    fluid.run(9, 120)
    for replica in fluid.replicas:
        replica.there = 200
    assert min(fluid.run(0, 60)) >= 6
    assert fluid.run(0, 200)[-1] == 0


def test_a_long_start_from_zero_orders_what_the_arrivals_need() -> None:
    fluid = model(60, min_replicas=0)
    fluid.run(1.5, 60)
    assert fluid.run(0, 200)[-1] == 0
    assert set(fluid.run(3, 59)) <= {1, 2}
    assert fluid.held > 150
    assert max(fluid.run(3, 60)) <= 3


def test_without_any_experience_what_waits_for_a_start_orders_no_more() -> None:
    fluid = model(60, min_replicas=0)
    fluid.target, fluid.replicas = 0, []
    assert fluid.run(1, 59)[-1] == 1
    assert max(fluid.run(1, 60)) <= 2


def demand_of(estimator: Estimator, seen: Observation) -> float:
    return estimator.demand(seen, Totals.of(seen)).requests


def test_tokens_and_kv_cache_follow_demand_before_they_are_there() -> None:
    estimator = Estimator(MAX_RUNNING, SLOTS)
    steady = ReplicaSignals(running=4, kv_usage=0.2, output_tokens_per_s=80, arrivals_per_s=2, service_s=2)
    for second in range(60):
        calm = Observation(second, (steady,), 1, 0)
        demand = estimator.demand(calm, Totals.of(calm))
    assert (demand.requests, demand.kv_usage, demand.output_tokens_per_s) == pytest.approx((4, 0.2, 80))
    signals = ReplicaSignals(running=6, kv_usage=0.3, output_tokens_per_s=100, arrivals_per_s=10, service_s=2)
    spike = Observation(60, (signals,), 1, 0)
    demand = estimator.demand(spike, Totals.of(spike))
    assert demand.requests == pytest.approx(20)
    assert demand.kv_usage == pytest.approx(1.0, rel=0.05) and demand.output_tokens_per_s == pytest.approx(
        400, rel=0.05
    )


def test_what_a_request_is_like_is_not_forgotten_while_idle() -> None:
    estimator = Estimator(MAX_RUNNING, SLOTS)
    for second in range(20):
        demand_of(estimator, Observation(second, (ReplicaSignals(running=4, arrivals_per_s=2, service_s=2),), 1, 0))
    for hour in range(1, 100):
        demand_of(estimator, Observation(3600.0 * hour, (ReplicaSignals(),), 1, 0))
    assert demand_of(estimator, Observation(360_001.0, (ReplicaSignals(arrivals_per_s=3),), 1, 0)) == pytest.approx(6)


def test_a_jump_is_ordered_although_slots_are_free_and_the_delay_is_long() -> None:
    one = Policy(Autoscaling(max_replicas=9, target_load=0.7, upscale_delay_s=60), MAX_RUNNING)
    targets = []
    for i, rate in enumerate([1.0] * 40 + [8.0]):
        signals = ReplicaSignals(running=4, arrivals_per_s=rate, service_s=SERVICE_S)
        targets.append(one.decide(Observation(STEP_S * i, (signals,), 1, 0)).replicas)
    assert targets == [1] * 40 + [5]


def test_a_replica_that_leaves_takes_arrivals_along_that_were_none_the_less() -> None:
    """Two a second each; when one is no longer seen, its two seconds of arrivals are missing for a while."""
    estimator = Estimator(MAX_RUNNING, SLOTS)
    one = ReplicaSignals(running=4, arrivals_per_s=2.0, service_s=SERVICE_S)
    for i in range(40):
        demand_of(estimator, Observation(STEP_S * i, (one, one, one), 3, 0))
    found = [demand_of(estimator, Observation(20 + STEP_S * i, (one, one), 2, 0)) for i in range(6)]
    later = [
        demand_of(estimator, Observation(23 + STEP_S * i, (replace(one, arrivals_per_s=3.0),) * 2, 2, 0))
        for i in range(20)
    ]
    assert found + later == pytest.approx([6.0 * SERVICE_S] * 26)


def backlogs(startup_s: float | None, targets: list[int]) -> list[float]:
    """Of one full replica, half a second apart, while 5 requests of 4 s arrive a second and so many are wanted."""
    estimator = Estimator(MAX_RUNNING, SLOTS, startup_s)
    signals = ReplicaSignals(running=MAX_RUNNING, waiting=3, arrivals_per_s=5, service_s=SERVICE_S)
    found = []
    for i, target in enumerate([1, *targets]):
        seen = Observation(STEP_S * i, (signals,), target, queued=1)
        found.append(estimator.demand(seen, Totals.of(seen)).backlog)
    return found[1:]


def test_what_will_wait_is_what_waits_and_what_finds_no_slot_meanwhile() -> None:
    # Of the 20 in progress by what arrives, 10 have no slot: 2.5 a second.
    assert backlogs(8.0, [1, 1]) == [pytest.approx(4 + 2.5 * 8)] * 2


def test_replicas_that_were_ordered_are_soon_there() -> None:
    assert backlogs(2.0, [1, 3, 3, 3, 3, 3, 3]) == pytest.approx([9, 9, 7.75, 6.5, 5.25, 4, 4])


def test_without_a_start_up_time_nothing_is_foretold() -> None:
    assert backlogs(None, [1, 3]) == [0, 0]


def test_a_backlog_orders_replicas_that_work_it_off() -> None:
    signals = ReplicaSignals(running=MAX_RUNNING, waiting=2, arrivals_per_s=5, service_s=SERVICE_S)
    for startup_s, replicas in ((None, 3), (8.0, 5)):
        one = Policy(Autoscaling(max_replicas=9, target_load=0.7, startup_s=startup_s), MAX_RUNNING)
        *_, decision = [one.decide(Observation(at_s, (signals,), 1, 0)) for at_s in (0.0, 0.5)]
        assert decision.replicas == replicas
    assert "22.0 requests will wait" in decision.reason
