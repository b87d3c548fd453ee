"""Each number follows from the measurements by the formula it names."""

from __future__ import annotations

import pytest

from loadtests.loadgen import traffic
from loadtests.planner.tuning import derive, formulas
from loadtests.planner.tuning.knee import Knee
from loadtests.results.slo import Slo
from tests.unit.loadtests.planner.tuning.replica import SLO, steps

LIMITS = derive.Constraints(max_running=32, max_replicas=8)


def derived(shape: str, limits: derive.Constraints = LIMITS) -> derive.Derived:
    return derive.derive(Knee(4.0, 3.5, 4.4, True), steps(), 6.0, SLO, traffic.parse(shape), limits)


def test_a_steady_load_gets_the_replicas_it_needs_and_no_jump() -> None:
    found = derived("steady:rate=10,duration=300")
    share = found.utilisation
    assert formulas.LEAST_UTILISATION <= share <= formulas.MOST_UTILISATION
    assert found.value("autoscaling.min_replicas") == found.value("autoscaling.max_replicas") == -(-10 // (4 * share))
    assert found.value("autoscaling.upscale_delay_s") == 2.0
    assert found.value("autoscaling.downscale_delay_s") == 6.0
    assert found.reaction_s == 6.0 + 2.0 + formulas.OBSERVED_S
    running = found.value("max_running")
    assert running == 14  # 8 open at the knee + 2 sqrt(8)
    assert found.value("autoscaling.target_load") == pytest.approx(8 * share / running, rel=0.05)
    assert found.value("autoscaling.tokens_per_s") == pytest.approx(4 * share * 20, rel=0.01)
    assert found.value("max_queued") == 1  # 4.5/s x (0.5 s - 0.1 s)
    assert not found.notes


def test_a_jump_buys_no_headroom_but_replicas_to_work_it_off() -> None:
    calm, jump = derived("steady:rate=2,duration=300"), derived("spike:base=2,peak=12,at=60,for=60,duration=300")
    assert jump.utilisation == calm.utilisation
    assert jump.value("autoscaling.min_replicas") == 1
    assert jump.value("autoscaling.max_replicas") == 7  # (12 + 10 x 9 / 6) / 4
    assert "3.0-fold within the 9.0 s" in jump.notes[0]


def test_what_the_machine_has_room_for_bounds_what_the_traffic_asks_for() -> None:
    found = derived("steady:rate=100,duration=60")
    assert found.value("autoscaling.max_replicas") == 8
    assert "asks for" in found.notes[0]


def test_a_knee_that_was_not_reached_bounds_nothing_and_is_told() -> None:
    knee = Knee(4.0, 4.0, 4.0, False)
    found = derive.derive(knee, steps(), 6.0, SLO, traffic.parse("steady:rate=1"), LIMITS)
    assert all(one.key != "max_running" for one in found.numbers)
    assert "the highest rate tried" in found.notes[0]


def test_an_slo_without_tpot_leaves_max_running_alone() -> None:
    found = derive.derive(
        Knee(4.0, 3.5, 4.4, True), steps(), 6.0, Slo.parse("ttft_p95=1s"), traffic.parse("steady:rate=1"), LIMITS
    )
    assert all(one.key != "max_running" for one in found.numbers)


def test_the_policy_is_told_the_startup_time() -> None:
    assert derived("steady:rate=10,duration=300").value("autoscaling.startup_s") == 6.0


def test_survives_its_own_file() -> None:
    found = derived("steady:rate=10,duration=300")
    assert derive.Derived.from_dict(found.to_dict()) == found
