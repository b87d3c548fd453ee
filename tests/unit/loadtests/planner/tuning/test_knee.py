"""The search finds knees that are known, says how sure it is, and spends little."""

from __future__ import annotations

import pytest

from loadtests.planner.tuning.knee import NeverHolds, Search, crossing, find, in_doubt, never_rising
from tests.unit.loadtests.planner.tuning.replica import SLO, Replica


@pytest.mark.parametrize("known", [0.7, 4.0, 23.0])
@pytest.mark.parametrize("first", [0.2, 1.0, 3.0])
def test_finds_the_knee_wherever_it_begins(known: float, first: float) -> None:
    replica = Replica(known, seconds=200.0)
    found = find(replica.measure, SLO, Search(first * known, repeats=2))
    assert found.rate == pytest.approx(known, rel=0.2)
    assert found.low <= found.rate <= found.high
    assert found.bounded
    assert len(replica.rates) < 20


def test_the_interval_holds_the_knee_and_narrows_with_more_requests() -> None:
    held = 0
    widths = {20.0: 0.0, 400.0: 0.0}
    for seed in range(10):
        for seconds in widths:
            found = find(Replica(4.0, seconds=seconds, seed=seed).measure, SLO, Search(1.0))
            widths[seconds] += found.high - found.low
            held += found.low * 0.95 <= 4.0 <= found.high * 1.05
    assert held >= 14
    assert widths[400.0] < widths[20.0]


def test_an_slo_that_always_holds_ends_at_the_highest_rate() -> None:
    replica = Replica(1000.0)
    found = find(replica.measure, SLO, Search(1.0, most=6.0))
    assert (found.rate, found.bounded) == (6.0, False)
    assert replica.rates == [1.0, 2.0, 4.0, 6.0]


def test_an_slo_that_never_holds_says_what_was_measured() -> None:
    with pytest.raises(NeverHolds, match=r"does not hold even at .* TTFT p95 was 2000 ms"):
        find(Replica(0.0001, slope=1).measure, SLO, Search(8.0, repeats=1))


def test_only_doubtful_rates_are_measured_again() -> None:
    replica = Replica(4.0, slope=20.0, seconds=100.0)
    find(replica.measure, SLO, Search(1.3, repeats=3))
    assert replica.rates.count(1.3) == 1
    assert replica.rates.count(5.2) == 1
    sure, doubtful = Replica(4.0).measure(1.0, 0), Replica(4.0).measure(4.0, 0)
    assert not in_doubt([sure], SLO)
    assert in_doubt([doubtful], SLO)


def test_noise_that_favours_a_higher_rate_is_pooled_away() -> None:
    assert never_rising([0.05, -0.02, 0.01, -0.3], [1, 1, 1, 1]) == pytest.approx([0.05, -0.005, -0.005, -0.3])
    assert never_rising([0.0, 0.4], [3, 1]) == pytest.approx([0.1, 0.1])


def test_the_crossing_lies_between_the_rates_around_it() -> None:
    good, bad = ((100, 100, 100),), ((100, 90, 100),)
    rate, bounded = crossing({2.0: good, 4.0: bad}, SLO)
    assert (rate, bounded) == (pytest.approx(3.0), True)
    assert crossing({2.0: good}, SLO) == (2.0, False)
