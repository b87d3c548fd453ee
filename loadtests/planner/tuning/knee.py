"""The knee: the highest request rate at which the SLO holds, found by measuring as few rates as will do.

The search doubles the rate while the SLO holds (halves it while it does not), then bisects between the highest rate
that held and the lowest that did not. A rate whose verdict chance could have decided is measured again.

An SLO term `ttft_p95=500ms` holds at a rate when at least 95 % of the requests had a TTFT within 500 ms. The margin
of a rate is the least, over the terms, of that share less the percentile; the knee is where the margin passes zero. A
higher rate cannot have more margin, so the margins are first made to fall with the rate (isotonic regression, weighted
by requests), then joined by straight lines.

The interval is a bootstrap: the blocks of requests of each rate (`step.BLOCK_S` long: neighbours share a queue and
are not independent) are drawn again with replacement, and the crossing computed anew, BOOTSTRAPS times; reported are
the 2.5 and 97.5 percentiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from loadtests.planner.tuning.step import Block, Step
from loadtests.results.intervals import wilson
from loadtests.results.percentiles import percentile
from loadtests.results.slo import Slo

BOOTSTRAPS = 400
DOUBT_CONFIDENCE = 0.6827
"""A rate is measured again while the Wilson interval of the deciding share at this confidence level (one standard
deviation to each side) holds the percentile asked for: wide enough to spend repeats near the knee only."""
LEAST_SHARE_OF_FIRST = 1 / 32
"""The search gives up below this part of the rate it began with."""


class NeverHolds(Exception):
    """The SLO does not hold at any rate worth serving; says what was measured at the lowest."""


@dataclass(frozen=True)
class Search:
    """How carefully to look."""

    first: float
    """The rate to begin with, requests/s."""
    most: float = math.inf
    """Not above this, requests/s."""
    tolerance: float = 0.1
    """Stop when the lowest rate that failed is at most this share above the highest that held."""
    repeats: int = 2
    """Measure a doubtful rate at most so often."""


@dataclass(frozen=True)
class Knee:
    """Where the SLO stops to hold, requests/s."""

    rate: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    bounded: bool
    """False when the SLO held at the highest rate that was tried: the knee is there or above."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Knee:
        return cls(**data)


Measure = Callable[[float, int], Step]
"""(rate, how often it was measured before) -> a measurement."""


def find(measure: Measure, slo: Slo, search: Search) -> Knee:
    """The knee of what `measure` measures. Raises NeverHolds."""
    steps: dict[float, list[Step]] = {}

    def holds(rate: float) -> bool:
        mine = steps.setdefault(rate, [])
        while len(mine) < search.repeats:
            mine.append(measure(rate, len(mine)))
            if not in_doubt(mine, slo):
                break
        return margin(_blocks(mine), slo) >= 0

    held, failed = 0.0, math.inf
    rate = min(search.first, search.most)
    while True:
        if holds(rate):
            held = rate
            if failed < math.inf or rate >= search.most:
                break
            rate = min(2 * rate, search.most)
        else:
            failed = rate
            if held:
                break
            rate = rate / 2
            if rate < LEAST_SHARE_OF_FIRST * search.first:
                raise NeverHolds(_why_never(steps[failed], slo))
    while failed < math.inf and failed > held * (1 + search.tolerance):
        middle = math.sqrt(held * failed)
        if holds(middle):
            held = middle
        else:
            failed = middle
    return estimate([one for group in steps.values() for one in group], slo)


def estimate(steps: Iterable[Step], slo: Slo, seed: int = 0) -> Knee:
    """The knee and its interval, from all measurements together."""
    by_rate: dict[float, list[Block]] = {}
    for one in steps:
        by_rate.setdefault(one.rate, []).extend(one.blocks)
    rate, bounded = crossing(by_rate, slo)
    rng = Random(seed)
    drawn = sorted(
        crossing({at: rng.choices(found, k=len(found)) for at, found in by_rate.items() if found}, slo)[0]
        for _ in range(BOOTSTRAPS)
    )
    return Knee(rate, min(rate, percentile(drawn, 2.5)), max(rate, percentile(drawn, 97.5)), bounded)


def crossing(by_rate: Mapping[float, Sequence[Block]], slo: Slo) -> tuple[float, bool]:
    """The rate at which the margin passes zero, and whether it does: the highest rate (lowest) where all hold
    (fail)."""
    rates = sorted(by_rate)
    counts = [_counts(by_rate[rate]) for rate in rates]
    weights = [count[0] if count else 0 for count in counts]
    margins = never_rising([_margin(count, slo) for count in counts], weights)
    if margins[0] < 0:
        return rates[0], True
    for i in range(1, len(rates)):
        if margins[i] < 0:
            upper, lower = margins[i - 1], margins[i]
            return rates[i - 1] + (rates[i] - rates[i - 1]) * upper / (upper - lower), True
    return rates[-1], False


def margin(blocks: Sequence[Block], slo: Slo) -> float:
    """The least, over the terms, of the share of requests within the limit less the share asked for; of no requests as
    if none had been answered."""
    return _margin(_counts(blocks), slo)


def in_doubt(steps: Sequence[Step], slo: Slo) -> bool:
    """Whether more requests could turn the verdict on a rate."""
    total, *counts = _counts(_blocks(steps)) or [0] * (1 + len(slo.terms))
    shares = [(kept, term.percentile / 100) for kept, term in zip(counts, slo.terms, strict=False)]
    kept, asked = min(shares, key=lambda one: one[0] / max(total, 1) - one[1])
    low, high = wilson(kept, total, DOUBT_CONFIDENCE)
    return low < asked < high


def never_rising(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The nearest sequence, by weighted squares, that never rises (isotonic regression); values without any weight
    count almost nothing."""
    from scipy.optimize import isotonic_regression  # half a second that a command's --help can do without

    fitted = isotonic_regression(values, weights=[max(one, 1e-9) for one in weights], increasing=False)
    return [float(one) for one in fitted.x]


def _counts(blocks: Iterable[Block]) -> list[int]:
    """The blocks added up: requests, then how many of them kept each term; nothing of no blocks."""
    return [sum(column) for column in zip(*blocks, strict=True)]


def _margin(counts: Sequence[int], slo: Slo) -> float:
    if not counts or not counts[0]:
        return -1.0
    total, *kept = counts
    return min(one / total - term.percentile / 100 for one, term in zip(kept, slo.terms, strict=False))


def _blocks(steps: Iterable[Step]) -> list[Block]:
    return [block for one in steps for block in one.blocks]


def _why_never(steps: Sequence[Step], slo: Slo) -> str:
    last = steps[-1]
    return (
        f"the SLO {slo} does not hold even at {last.rate:.3g} requests/s: TTFT p95 was {last.ttft_ms['p95']:.0f} ms,"
        f" TPOT p95 {last.tpot_ms['p95']:.1f} ms, {last.outcomes['ok']} of {last.requests} requests answered."
        " Ask for less, make requests shorter (--lengths), or use a faster machine"
    )
