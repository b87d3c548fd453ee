"""The oracle: the fewest replicas over time that hold a load, for one who knows all arrivals beforehand.

It is the yardstick of the proof, so it must be hard to beat and owe nothing to any policy:
- it needs `ceil(rate / capacity)` replicas at each moment, where the rate is the mean of the arrivals over `window_s`
  around that moment. Capacity is the knee under Poisson arrivals, which has met their ups and downs already; counting
  each second's arrivals would make the oracle pay for them twice, and so be easier to match.
- a replica that is needed from t on was ordered at t - start-up, and occupies its device while it starts. One that
  would be needed again within a start-up time is cheaper kept than replaced: both come out of taking, at each moment,
  the greatest need of the start-up time that follows.
- it never needs to be told of an end: replicas go the moment they are not needed, without draining.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

WINDOW_S = 10.0
"""Arrivals are averaged over this long, s."""
STEP_S = 0.5
"""Resolution of the answer, s."""


@dataclass(frozen=True)
class Oracle:
    """Replicas over time: `replicas[i]` from `i * step_s` to `(i + 1) * step_s`."""

    step_s: float
    replicas: tuple[int, ...]

    @property
    def replica_seconds(self) -> float:
        """The sum, over replicas, of the time from order to end."""
        return self.step_s * sum(self.replicas)

    @property
    def points(self) -> list[tuple[float, int]]:
        """(from s on, replicas), to be drawn."""
        return [(i * self.step_s, count) for i, count in enumerate(self.replicas)]


def least(
    arrivals: Sequence[float],
    capacity: float,
    startup_s: float,
    duration_s: float,
    *,
    min_replicas: int = 1,
    max_replicas: int | None = None,
    window_s: float = WINDOW_S,
) -> Oracle:
    """The fewest replicas that hold `arrivals` (s from the start, in order) at `capacity` requests/s each."""
    count = max(1, math.ceil(duration_s / STEP_S))
    needs = []
    for i in range(count):
        middle = (i + 0.5) * STEP_S
        low, high = max(0.0, middle - window_s / 2), min(duration_s, middle + window_s / 2)
        came = bisect_left(arrivals, high) - bisect_left(arrivals, low)
        need = math.ceil(came / (high - low) / capacity - 1e-9)
        need = max(min_replicas, need)
        needs.append(need if max_replicas is None else min(max_replicas, need))
    return Oracle(STEP_S, tuple(_highest_ahead(needs, round(startup_s / STEP_S))))


def _highest_ahead(values: Sequence[int], ahead: int) -> list[int]:
    """At each place, the greatest value of that place and the `ahead` places after it."""
    result = [0] * len(values)
    best: deque[int] = deque()
    for i in range(len(values) - 1, -1, -1):
        while best and values[best[-1]] <= values[i]:
            best.pop()
        best.append(i)
        while best[0] > i + ahead:
            best.popleft()
        result[i] = values[best[0]]
    return result
