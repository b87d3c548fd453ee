"""The arrival rate: chance moves it little, change moves it at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from random import Random

import pytest

from serve_app.autoscaling.arrivals import BLUR_S, LONGEST_S, Rate
from serve_app.replica.protocol import LOOK_BACK_S, RATES_OVER_S

STEP_S = 0.5


def told(rates: Iterable[float], rate: Rate | None = None) -> list[tuple[float, bool]]:
    """(rate, jumped) after each report, STEP_S apart."""
    rate = rate or Rate()
    found = []
    for i, per_s in enumerate(rates):
        rate.add(STEP_S * i, per_s)
        found.append((rate.per_s, rate.jumped(STEP_S * i)))
    return found


def poisson(random: Random, per_s: float, seconds: float) -> list[float]:
    """What replicas report of Poisson arrivals: a rate over RATES_OVER_S, its mean over LOOK_BACK_S."""
    counts: deque[int] = deque(maxlen=round(RATES_OVER_S / STEP_S))
    means: deque[float] = deque(maxlen=round(LOOK_BACK_S / STEP_S))
    reports, due = [], random.expovariate(per_s)
    for i in range(round(seconds / STEP_S)):
        came = 0
        while due < STEP_S * (i + 1):
            came += 1
            due += random.expovariate(per_s)
        counts.append(came)
        means.append(sum(counts) / RATES_OVER_S)
        reports.append(sum(means) / len(means))
    return reports[len(counts) + len(means) :]


def test_before_the_first_report_nothing_arrives() -> None:
    assert Rate().per_s == 0
    assert not Rate().jumped(0)


def test_the_ups_and_downs_of_a_steady_load_are_averaged_out() -> None:
    found = told(poisson(Random(1), 6.0, 120.0))[round(LONGEST_S / STEP_S) :]
    assert all(rate == pytest.approx(6.0, rel=0.25) for rate, _ in found)


def test_chance_is_no_jump() -> None:
    found = [jumped for seed in range(20) for _, jumped in told(poisson(Random(seed), 6.0, 120.0))]
    assert sum(found) <= 2 * BLUR_S / STEP_S, "more than two in forty minutes"


def test_a_jump_counts_in_full_as_soon_as_it_is_seen() -> None:
    *_, before, at_jump, later = told([2.0] * 40 + [9.0] * 2)
    assert before == (pytest.approx(2.0), False)
    assert at_jump == later == (pytest.approx(9.0), True)


def test_a_jump_is_over_when_reports_have_seen_all_of_it() -> None:
    found = told([2.0] * 40 + [9.0] * 20)[40:]
    assert [jumped for _, jumped in found] == [STEP_S * i < BLUR_S for i in range(20)]


def test_a_fall_is_no_jump_and_is_believed_at_once_too() -> None:
    *_, fallen = told([12.0] * 40 + [2.0])
    assert fallen == (pytest.approx(2.0), False)


def test_a_change_too_small_for_a_moment_is_known_after_a_while() -> None:
    found = [rate for rate, _ in told([20.0] * 60 + [28.0] * 30)][60:]
    assert found[0] == pytest.approx(20.0, rel=0.02), "eight more a second may be chance"
    assert found[-1] == pytest.approx(28.0, rel=0.02), "the old rate is dropped, not averaged in"


def test_a_slow_rise_is_followed() -> None:
    ramp = [1.0 + 0.05 * STEP_S * i for i in range(400)]
    *_, (rate, _) = told(ramp)
    assert rate == pytest.approx(ramp[-1], abs=0.05 * LONGEST_S)


def test_reports_that_pause_are_no_trouble() -> None:
    rate = Rate()
    for at_s in (0.0, 0.5, 1000.0, 1000.5):
        rate.add(at_s, 3.0)
    assert rate.per_s == pytest.approx(3.0)
