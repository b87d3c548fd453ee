"""Each formula gives what its symbols say."""

from __future__ import annotations

import pytest

from loadtests.loadgen import traffic
from loadtests.planner.tuning import formulas
from loadtests.results.slo import Term
from tests.unit.loadtests.planner.tuning.replica import steps


def test_a_steep_ramp_lowers_the_utilisation() -> None:
    rise = formulas.rise_factor(traffic.parse("ramp:from=8,to=48,duration=120"), 9.0, 4.0)
    assert rise == pytest.approx((8 + 40 * 9 / 120) / 8, abs=0.01)
    assert formulas.utilisation(0.9, rise) == pytest.approx(1 / rise, abs=0.001)
    assert formulas.utilisation(0.7, rise) == 0.7
    assert formulas.utilisation(0.9, 1 + 1 / formulas.LEAST_UTILISATION) == 0.9


@pytest.mark.parametrize(
    ("term", "mean"), [(Term("ttft", 3.0, 95), 1.0), (Term("ttft", 4.605, 99), 1.0), (Term("ttft", 0.5, 50), 0.721)]
)
def test_the_ttft_target_is_the_mean_of_an_exponential_tail(term: Term, mean: float) -> None:
    assert formulas.ttft_target_s(term) == pytest.approx(mean, rel=0.01)


def test_open_requests_follow_the_measurements_by_straight_lines() -> None:
    assert formulas.concurrency_at(steps(), 0.5) == pytest.approx(1.0)
    assert formulas.concurrency_at(steps(), 3.0) == pytest.approx(6.0)
    assert formulas.concurrency_at(steps(), 10.0) == pytest.approx(20.0)


def test_a_jump_starts_what_it_needs_and_what_waits_meanwhile() -> None:
    """Requests take 2 s at the knee; a replica runs 10, so carries 5 a second."""
    shape, at_knee = traffic.parse("spike:base=4,peak=20,at=60,for=60,duration=300"), steps()[2]
    # 40 in progress; without waiting those are four replicas, of which one is there.
    assert formulas.ordered_at_once(shape, [60.0], at_knee, 10, 0.0) == 3
    # 15 a second find no slot for 4 s: 60 more.
    assert formulas.ordered_at_once(shape, [60.0], at_knee, 10, 4.0) == 9
    assert formulas.ordered_at_once(shape, [], at_knee, 10, 4.0) == 1
