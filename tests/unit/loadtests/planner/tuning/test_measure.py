"""How long a rate is offered."""

from __future__ import annotations

from loadtests.planner.tuning.measure import step_seconds


def test_slow_rates_are_offered_for_longer_within_a_bound() -> None:
    assert step_seconds(10.0, 8.0) == 8.0
    assert step_seconds(4.0, 8.0) == 10.0
    assert step_seconds(0.5, 8.0) == 24.0
