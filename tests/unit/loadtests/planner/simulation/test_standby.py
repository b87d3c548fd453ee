"""Standby replicas in virtual time: a spike is met by those that sleep, and they cost their share."""

from __future__ import annotations

import pytest

from loadtests.planner.simulation.world import SimulationRun
from loadtests.results.replicas import ReplicaCounts, replica_seconds
from serve_app.config.schema import Autoscaling
from tests.unit.loadtests.planner.simulation.scenarios import run, scenario


def test_a_sleeping_replica_counts_as_its_share() -> None:
    samples = [ReplicaCounts(0.0, 1, 1, 3, 0.0, asleep=2), ReplicaCounts(10.0, 3, 3, 3, 0.0)]
    assert replica_seconds(samples, 20.0) == 60.0
    assert replica_seconds(samples, 20.0, standby_cost=0.1) == pytest.approx(10 + 2 * 10 * 0.1 + 30)


def within(found: SimulationRun, limit_s: float) -> float:
    return sum(one.ttft_s is not None and one.ttft_s < limit_s for one in found.records) / len(found.records)


def test_sleepers_meet_a_spike_while_others_start() -> None:
    settings = {"min_replicas": 1, "max_replicas": 8, "upscale_delay_s": 2, "downscale_delay_s": 10}
    found = {
        standby: run(scenario(startup_s=15.0, autoscaling=Autoscaling(**settings, standby=standby)))
        for standby in (0, 3)
    }
    assert within(found[3], 1.0) > within(found[0], 1.0) + 0.2
    before = [one for one in found[3].samples if 5 < one.at_s < 19]
    assert (1, 3) in {(one.ready, one.asleep) for one in before}
    spike = [one for one in found[3].samples if 24 < one.at_s < 34]
    assert min(one.ready for one in spike) >= 4, "they wake at once"
    assert max(one.occupied for one in found[3].samples) <= 8
    last = found[3].samples[-1]
    assert last.asleep and last.ready + last.asleep <= 5, "and sleep again"
    assert all(one.outcome == "ok" for one in found[3].records if one.scheduled_s > 40)


def test_an_idle_model_sleeps_and_its_next_request_is_answered_at_once() -> None:
    settings = Autoscaling(min_replicas=0, max_replicas=1, standby=1, downscale_delay_s=5)
    of = scenario("bursts:peak=2,on=5,off=25,base=0,duration=120", startup_s=30.0, autoscaling=settings)
    found = run(of)
    assert all(one.outcome == "ok" and one.ttft_s is not None and one.ttft_s < 1 for one in found.records)
    assert any(one.asleep for one in found.samples) and any(one.ready for one in found.samples)
