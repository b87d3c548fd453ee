"""The oracle needs what the load needs, a start-up time ahead, and no more."""

from __future__ import annotations

from random import Random

import pytest

from loadtests.loadgen import traffic
from loadtests.planner.tuning.oracle import least


def even(rate: float, from_s: float, to_s: float) -> list[float]:
    count = int((to_s - from_s) * rate)
    return [from_s + (i + 0.5) / rate for i in range(count)]


@pytest.mark.parametrize(("rate", "replicas"), [(1.9, 1), (2.1, 2), (7.9, 4)])
def test_a_constant_load_needs_what_it_is_by_capacity(rate: float, replicas: int) -> None:
    found = least(even(rate, 0, 100), 2.0, 5.0, 100.0)
    middle = found.replicas[40:160]
    assert max(middle, key=middle.count) == replicas
    assert found.replica_seconds == pytest.approx(100 * replicas, rel=0.15)


def test_replicas_are_ordered_a_startup_time_ahead_and_go_at_once() -> None:
    arrivals = even(1, 0, 60) + even(8, 60, 90) + even(1, 90, 200)
    found = least(arrivals, 2.0, 10.0, 200.0, window_s=2.0)
    four = [i * found.step_s for i, count in enumerate(found.replicas) if count == 4]
    assert four[0] == pytest.approx(50, abs=1.5)
    assert four[-1] == pytest.approx(90, abs=1.5)
    assert found.replicas[0] == found.replicas[-1] == 1


def test_a_gap_shorter_than_a_startup_keeps_its_replicas() -> None:
    arrivals = even(8, 0, 50) + even(1, 50, 56) + even(8, 56, 100)
    keeps, lets_go = (least(arrivals, 2.0, startup, 100.0, window_s=1.0) for startup in (8.0, 1.0))
    assert min(keeps.replicas) == 4
    assert min(lets_go.replicas) == 1


def test_bounds_hold_and_nothing_to_do_needs_the_fewest() -> None:
    assert set(least([], 2.0, 5.0, 30.0).replicas) == {1}
    assert set(least([], 2.0, 5.0, 30.0, min_replicas=0).replicas) == {0}
    assert max(least(even(50, 0, 30), 2.0, 5.0, 30.0, max_replicas=8).replicas) == 8


def test_poisson_noise_costs_little() -> None:
    shape = traffic.parse("steady:rate=10,duration=600")
    found = least(list(shape.arrivals(Random(1))), 2.6, 5.0, 600.0)
    assert found.replica_seconds < 1.35 * 600 * 4
