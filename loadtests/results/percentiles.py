"""Percentiles by nearest rank: the one definition that every figure of the load tests goes by.

The p-th percentile is the least value that p percent of all values do not exceed, so it is always one of the values.
The client of `vllm bench serve` and Locust's own web UI have definitions of their own; they differ by one rank at most.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

PERCENTILES = (50, 90, 95, 99)
"""The percentiles that a summary of requests holds."""


def percentile(values: Sequence[float], percent: float) -> float:
    """Of values in any order; `percent` is 0 to 100. 0 of no values."""
    return sorted(values)[_rank(len(values), percent)] if values else 0.0


def percentile_of_counts(counts: Mapping[float, int], percent: float) -> float:
    """Of values given as how often each came; `percent` is 0 to 100. 0 of no values."""
    left = _rank(sum(counts.values()), percent)
    for value in sorted(counts):
        if left < counts[value]:
            return value
        left -= counts[value]
    return 0.0


def percentiles(values: Iterable[float | None]) -> dict[int, float]:
    """By each of PERCENTILES, of those values that are known."""
    known = sorted(value for value in values if value is not None)
    return {percent: percentile(known, percent) for percent in PERCENTILES}


def _rank(count: int, percent: float) -> int:
    """Index of the percentile among so many values in order."""
    return max(0, math.ceil(count * percent / 100 - 1e-9) - 1)
