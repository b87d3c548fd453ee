"""How many requests a second are asked for over time, and when each comes.

A new load shape is a function here that returns a Traffic, and its name in SHAPES: `--traffic` and `--shape` of the
Locust file, the tuner and the simulator take `name:key=value,...` then, with the function's parameters as keys.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random

from loadtests import arguments
from loadtests.loadgen import trace

DAY_POINTS = 96
"""A day's curve is straight between these: a quarter of an hour of a real day."""
TRACE_BIN_S = 10.0
"""A trace's rate is the mean over this long, s."""
MOST_POINTS = 1_000_000
"""Of one traffic."""


@dataclass(frozen=True)
class Traffic:
    """A rate that is straight between points, and jumps where two points share a time."""

    points: tuple[tuple[float, float], ...]
    """(seconds from the start, requests a second), in order of time; the first is at 0, the last is the end."""
    timestamps: tuple[float, ...] | None = None
    """When each request of a trace came, seconds from the start; without them arrivals are drawn."""

    def __post_init__(self) -> None:
        if len(self.points) < 2 or self.points[0][0] != 0 or self.duration_s <= 0:
            raise ValueError("traffic must begin at 0 and last longer than 0 s")
        if any(later < earlier for (earlier, _), (later, _) in pairwise(self.points)):
            raise ValueError("the times of traffic must not go back")
        if not all(math.isfinite(rate) and rate >= 0 for _, rate in self.points):
            raise ValueError("a rate of traffic must not be below 0")
        if not self.peak and not self.timestamps:
            raise ValueError("nothing would ever come: its rate is 0 from the start to the end")

    @property
    def duration_s(self) -> float:
        return self.points[-1][0]

    @property
    def peak(self) -> float:
        """The highest rate, requests/s."""
        return max(rate for _, rate in self.points)

    def rate_at(self, t_s: float) -> float:
        """Requests/s at a time; at a jump, the rate after it. 0 before the start and from the end on."""
        return self._after(t_s) if 0 <= t_s < self.duration_s else 0.0

    def expected(self, from_s: float = 0.0, to_s: float = math.inf) -> float:
        """Requests to expect from one time to another: the integral of the rate."""
        total = 0.0
        for (start, first), (end, last) in pairwise(self.points):
            low, high = max(start, from_s), min(end, to_s)
            if high > low:
                slope = (last - first) / (end - start)
                total += (high - low) * (first + slope * ((low + high) / 2 - start))
        return total

    def steepest_rise(self, window_s: float) -> float:
        """The most by which the rate grows within any time of that length, requests/s."""
        times = sorted({t for t, _ in self.points})
        starts = {min(max(t, 0.0), self.duration_s) for time in times for t in (time, time - window_s)}
        rise = 0.0
        for start in starts:
            end = min(start + window_s, self.duration_s)
            inside = self.points[bisect_left(self.points, start, key=_time) : bisect_right(self.points, end, key=_time)]
            low = min(self._before(start), self._after(start))
            rise = max(rise, self._before(end) - low, *(rate - low for _, rate in inside))
        return rise

    def arrivals(self, rng: Random) -> Iterator[float]:
        """When each request comes, seconds from the start.

        A trace's own times; else a Poisson process of this rate, by thinning one of the peak rate (Lewis and Shedler,
        1979, "Simulation of nonhomogeneous Poisson processes by thinning").
        """
        if self.timestamps is not None:
            yield from self.timestamps
            return
        peak, t = self.peak, 0.0
        while peak:
            t += rng.expovariate(peak)
            if t >= self.duration_s:
                return
            if rng.random() * peak < self._after(t):
                yield t

    def _after(self, t_s: float) -> float:
        """The rate just after a time."""
        i = bisect_right(self.points, t_s, key=_time)
        return self._between(max(1, min(i, len(self.points) - 1)), t_s)

    def _before(self, t_s: float) -> float:
        """The rate just before a time."""
        i = bisect_left(self.points, t_s, key=_time)
        return self._between(i, t_s) if i else self.points[0][1]

    def _between(self, i: int, t_s: float) -> float:
        (start, first), (end, last) = self.points[i - 1 : i + 1]
        return last if end == start else first + (last - first) * (t_s - start) / (end - start)


def steady(rate: float, duration: float = 60) -> Traffic:
    """One rate, requests/s, all the time; `duration` in s."""
    return Traffic(((0.0, rate), (duration, rate)))


def steps(from_: float, to: float, steps: float, duration: float) -> Traffic:
    """From one rate to another, requests/s, in `steps` equal steps of equal length; `duration` of all in s."""
    count = int(steps)
    if count < 2 or count != steps:
        raise ValueError(f"steps must be a whole number above 1; got {steps:g}")
    _bounded(count)
    return _levels([(duration / count, from_ + (to - from_) * i / (count - 1)) for i in range(count)])


def ramp(from_: float, to: float, duration: float) -> Traffic:
    """Straight from one rate to another, requests/s; `duration` in s."""
    return Traffic(((0.0, from_), (duration, to)))


def spike(base: float, peak: float, at: float, for_: float, duration: float) -> Traffic:
    """A base rate, and from `at` on for `for_` seconds a peak rate, without a ramp; rates in requests/s, times in s."""
    if at + for_ > duration:
        raise ValueError(f"the spike ends at {at + for_:g} s, after the traffic's end at {duration:g} s")
    return _levels([(at, base), (for_, peak), (duration - at - for_, base)])


def day(base: float, peak: float, duration: float = 86400) -> Traffic:
    """A cosine from a day's quietest hour through its busiest to the quietest again, compressed to any duration."""
    curve = [(1 - math.cos(2 * math.pi * i / DAY_POINTS)) / 2 for i in range(DAY_POINTS + 1)]
    return Traffic(tuple((duration * i / DAY_POINTS, base + (peak - base) * up) for i, up in enumerate(curve)))


def bursts(peak: float, on: float, off: float, duration: float, base: float = 0) -> Traffic:
    """`off` seconds of the base rate and `on` seconds of the peak, in turn; rates in requests/s."""
    if on <= 0 or off <= 0:
        raise ValueError("on and off must be longer than 0 s")
    _bounded(2 * duration / (on + off))
    levels, left = [], duration
    while left > 0:
        for length, rate in ((off, base), (on, peak)):
            levels.append((min(length, left), rate))
            left -= length
            if left <= 0:
                break
    return _levels(levels)


def replay(file: str, speed: float = 1, bin: float = TRACE_BIN_S) -> Traffic:
    """A trace file's requests at their own times, `speed` times as fast; `bin`: over how long its rate is a mean, s."""
    if speed <= 0 or bin <= 0:
        raise ValueError("speed and bin must be above 0")
    times = [one.at_s / speed for one in trace.read(Path(file))]
    return of_times(times, bin)


def of_times(times: Sequence[float], bin_s: float = TRACE_BIN_S) -> Traffic:
    """Traffic that replays these times, seconds from the start, in order."""
    end = times[-1] + 0.001
    bin_s = min(bin_s, end)
    _bounded(end / bin_s)
    counts = [0] * math.ceil(end / bin_s)
    for t in times:
        counts[int(t / bin_s)] += 1
    widths = [min(bin_s, end - i * bin_s) for i in range(len(counts))]
    levels = [(width, count / width) for width, count in zip(widths, counts, strict=True)]
    return Traffic(_levels(levels).points, tuple(times))


SHAPES: dict[str, Callable[..., Traffic]] = {
    "steady": steady,
    "steps": steps,
    "ramp": ramp,
    "spike": spike,
    "day": day,
    "bursts": bursts,
    "trace": replay,
}


def parse(text: str) -> Traffic:
    """`spike:base=2,peak=12,at=60,for=60,duration=300`, `trace:FILE`, ...: rates in requests/s, times in s.

    Raises BadSpec.
    """
    return arguments.call_spec(SHAPES, text, "traffic")


def _bounded(levels: float) -> None:
    if levels > MOST_POINTS:
        raise ValueError(f"it would change its rate {levels:,.0f} times, of at most {MOST_POINTS:,}")


def _time(point: tuple[float, float]) -> float:
    return point[0]


def _levels(levels: Sequence[tuple[float, float]]) -> Traffic:
    """Constant rates one after the other, as (length in s, requests/s)."""
    points, t = [], 0.0
    for length, rate in levels:
        if length < 0:
            raise ValueError("a time must not be below 0")
        points += [(t, rate), (t + length, rate)]
        t += length
    return Traffic(tuple(points))
