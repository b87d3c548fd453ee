"""A replica whose knee is known, for the search to find."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from loadtests.planner.tuning.step import Step
from loadtests.results.record import Record
from loadtests.results.slo import Slo

SLO = Slo.parse("ttft_p95=500ms,tpot_p95=50ms")


def records(share_within: float, rate: float, seconds: float, rng: Random) -> list[Record]:
    """Requests of 20 tokens, of which so many get their first token in time."""
    found, at = [], 0.0
    while (at := at + rng.expovariate(rate)) < seconds:
        ttft = 0.1 if rng.random() < share_within else 2.0
        found.append(Record(at, at, ttft, ttft + 19 * 0.02, 64, 20, "ok"))
    return found


class Replica:
    """Holds the SLO's 95 % up to a rate; each 10 % of rate more cost `slope` percent of the requests."""

    def __init__(self, knee: float, slope: float = 5.0, seconds: float = 60.0, seed: int = 3) -> None:
        self._knee = knee
        self._slope = slope
        self._seconds = seconds
        self._rng = Random(seed)
        self.rates: list[float] = []

    def measure(self, rate: float, repeat: int) -> Step:
        self.rates.append(rate)
        share = 0.95 - self._slope / 100 * (rate / self._knee - 1) * 10
        found = records(min(1.0, max(0.0, share)), rate, self._seconds, self._rng)
        return Step.of(found, SLO, rate, self._seconds)


def steps() -> list[Step]:
    """A replica with its knee at 4/s, whose requests take 2 s: 2 open requests for each request/s."""
    replica = Replica(4.0)
    found = [replica.measure(rate, 0) for rate in (1.0, 2.0, 4.0, 5.0)]
    return [replace(one, concurrency=2 * one.rate, latency_s=2.0, achieved_rate=min(one.rate, 4.5)) for one in found]
