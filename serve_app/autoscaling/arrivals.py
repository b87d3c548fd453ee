"""How many requests a second arrive: a mean as long as chance allows, as short as change demands.

A mean over a few seconds takes every cluster of arrivals for a rise; one over a minute is a minute late. So this is the
mean over the longest stretch that ends now and may be one Poisson process: a steady load's ups and downs order
nothing, and a jump counts as soon as it cannot be chance. The idea is ADWIN's (Bifet and Gavalda, "Learning from
time-changing data with adaptive windowing", 2007), with the likelihood ratio of two Poisson rates as its test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from serve_app.replica.protocol import LOOK_BACK_S, RATES_OVER_S

LONGEST_S = 30.0
"""No stretch is longer: a slow rise, in which no moment differs from the next, must not go unseen."""
CERTAIN = 4.0
"""Standard deviations by which two parts of a stretch must differ to be two rates. Many pairs of parts are compared, so
chance reaches 3 every few minutes."""
BLUR_S = RATES_OVER_S + LOOK_BACK_S
"""What is reported at a moment counts arrivals of so long before it: a rate over RATES_OVER_S, its mean over
LOOK_BACK_S."""
COUNTED_S = RATES_OVER_S**2 / (RATES_OVER_S - LOOK_BACK_S / 3)
"""What is reported is as certain as a count over this long: 1 over the integral of the square of that blur's weights,
which is a trapezoid for a LOOK_BACK_S that is the shorter of the two."""


class Rate:
    """Of arrivals, from what is reported of them again and again."""

    def __init__(self) -> None:
        self._reports: list[tuple[float, float]] = []
        """(when, requests a second), of the stretch that may be one process."""
        self._jumped_at = -math.inf

    @property
    def per_s(self) -> float:
        """Requests a second; 0 before the first report."""
        return _mean(self._reports)

    def add(self, at_s: float, per_s: float) -> None:
        """A report: on the caller's clock, which never goes back, requests a second."""
        reports = [*self._reports, (at_s, per_s)]
        while reports[0][0] < at_s - LONGEST_S:
            del reports[0]
        if changed := _change(reports):
            if _mean(reports[changed:]) > _mean(reports[:changed]):
                self._jumped_at = at_s
            del reports[:changed]
        self._reports = reports

    def jumped(self, at_s: float) -> bool:
        """Whether there are more arrivals than there were until a moment ago, by more than chance."""
        return at_s < self._jumped_at + BLUR_S


def _change(reports: Sequence[tuple[float, float]]) -> int:
    """Where the later reports differ most from the earlier ones, if that is no chance; 0 otherwise.

    What was reported within BLUR_S before the later ones has counted arrivals that they count too, and is left out.
    """
    best, change = CERTAIN**2, 0
    later = sum(per_s for _, per_s in reports)
    earlier, known = 0.0, 0
    for i, (at_s, per_s) in enumerate(reports):
        while reports[known][0] <= at_s - BLUR_S:
            earlier += reports[known][1]
            known += 1
        if known:
            before = earlier / known, reports[known - 1][0] - reports[0][0] + COUNTED_S
            since = max(0.0, later) / (len(reports) - i), reports[-1][0] - at_s + COUNTED_S
            if (found := _deviance(*before, *since)) > best:
                best, change = found, i
        later -= per_s
    return change


def _deviance(one: float, one_s: float, other: float, other_s: float) -> float:
    """Twice the log of how much likelier two Poisson rates are than one, counted for so long each: the square of
    standard deviations, roughly."""
    both = (one * one_s + other * other_s) / (one_s + other_s)
    return 2 * sum(rate * s * math.log(rate / both) for rate, s in ((one, one_s), (other, other_s)) if rate > 0)


def _mean(reports: Sequence[tuple[float, float]]) -> float:
    return sum(per_s for _, per_s in reports) / len(reports) if reports else 0.0
