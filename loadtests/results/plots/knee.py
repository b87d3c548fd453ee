"""One replica under rising request rates, and the knee: the highest rate at which its SLO holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from matplotlib.figure import Figure

from loadtests.results.intervals import wilson
from loadtests.results.plots.style import BLUE, GRAY, GREEN, ORANGE, PALE_GREEN, RED, styled
from loadtests.results.slo import Slo

COLORS = {"ttft": BLUE, "tpot": ORANGE, "e2e": GREEN}


class RateMeasurement(Protocol):
    """One measurement at a constant rate."""

    @property
    def rate(self) -> float:
        """Offered, requests/s."""

    @property
    def ttft_ms(self) -> Mapping[str, float]:
        """At least p50 and p95."""

    @property
    def tpot_ms(self) -> Mapping[str, float]:
        """At least p50 and p95."""

    @property
    def blocks(self) -> Sequence[Sequence[int]]:
        """For stretches of time, requests and then how many of them kept each term of the SLO, in the SLO's order."""


class KneeInterval(Protocol):
    """A knee with its 95 % interval, requests/s."""

    @property
    def rate(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


@styled
def shares(measured: Sequence[RateMeasurement], knee: KneeInterval, slo: Slo) -> Figure:
    """Share of requests within each limit with its 95 % interval, TTFT and TPOT, each by offered rate."""
    figure = Figure(figsize=(11, 3.1))
    left, middle, right = figure.subplots(1, 3)
    rates = sorted({one.rate for one in measured})
    for i, term in enumerate(slo.terms, 1):
        percents, errors = [], []
        for rate in rates:
            blocks = [block for one in measured if one.rate == rate for block in one.blocks]
            total, kept = sum(block[0] for block in blocks), sum(block[i] for block in blocks)
            low, high = wilson(kept, total)
            share = kept / max(total, 1)
            percents.append(100 * share)
            errors.append((100 * max(0.0, share - low), 100 * max(0.0, high - share)))
        color = COLORS[term.figure]
        error_bars = list(zip(*errors, strict=True))
        left.errorbar(rates, percents, error_bars, fmt="o-", ms=3.5, lw=1, capsize=2, color=color, label=str(term))
        left.axhline(term.percentile, color=color, lw=0.8, ls=":")
    left.set(ylabel="% of requests within the limit", ylim=(max(0, left.get_ylim()[0]), 101))
    for axis, name in ((middle, "ttft"), (right, "tpot")):
        for percent, color in (("p50", GRAY), ("p95", COLORS[name])):
            points = sorted((one.rate, getattr(one, f"{name}_ms")[percent]) for one in measured)
            axis.plot(*zip(*points, strict=True), "o-", ms=3.5, lw=1, color=color, label=f"{name.upper()} {percent}")
        if math.isfinite(limit := slo.limit_s(name)):
            axis.axhline(1000 * limit, color=RED, lw=0.8, ls="--", label="limit")
        axis.set(ylabel=f"{name.upper()}, ms", ylim=(0, None))
    for axis in (left, middle, right):
        axis.axvspan(knee.low, knee.high, color=PALE_GREEN, linewidth=0, zorder=0)
        axis.axvline(knee.rate, color=GREEN, lw=1.2)
        axis.set_xlabel("offered requests/s")
        axis.legend(loc="best")
    figure.tight_layout()
    return figure
