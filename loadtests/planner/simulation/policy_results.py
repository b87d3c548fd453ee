"""What a simulated run under one policy came to, as a line of a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from loadtests.planner.simulation.world import SimulationRun
from loadtests.planner.tuning.oracle import Oracle
from loadtests.results import replicas, tables
from loadtests.results.slo import Slo
from loadtests.results.summary import Summary

CURVE_POINTS = 1000
"""A curve in the JSON has about so many."""


@dataclass(frozen=True)
class PolicyResult:
    """One policy's run in figures."""

    policy: str
    summary: Summary
    replica_seconds: float
    """From when each was ordered to when it had drained, within the traffic's duration."""
    gpu_hours: float
    """Hours, summed over the GPUs, in which a GPU held a replica."""
    over_oracle: float
    """Replica-seconds, as a multiple of the least that one who knows the future needs."""
    actions: int
    """Changes of the number of replicas wanted."""
    reversals: int
    """Changes that took back the one before within the down delay."""
    peak_replicas: int
    peak_gpus: int
    until_s: float
    """How far the run came, s."""
    adapter_loads: int
    """How often a replica loaded an adapter."""

    @classmethod
    def of(
        cls,
        policy: str,
        run: SimulationRun,
        slo: Slo,
        best: Oracle,
        reversal_window_s: float,
        standby_cost: float = 1.0,
    ) -> PolicyResult:
        """Sums a run up beside the oracle's, up to where it came."""
        least = best.step_s * sum(best.replicas[: max(1, round(run.until_s / best.step_s))])
        spent = replicas.replica_seconds(run.samples, run.until_s, standby_cost)
        return cls(
            policy=policy,
            summary=Summary.of(run.records, slo),
            replica_seconds=spent,
            gpu_hours=_gpu_seconds(run) / 3600,
            over_oracle=spent / least if least else 0.0,
            actions=len(replicas.changes(run.samples)),
            reversals=replicas.reversals(run.samples, reversal_window_s),
            peak_replicas=max((one.occupied for one in run.samples), default=0),
            peak_gpus=max(run.gpus, default=0),
            until_s=run.until_s,
            adapter_loads=run.adapter_loads,
        )

    @property
    def loads_a_thousand(self) -> float:
        """Loads of adapters for each 1,000 requests that were answered."""
        return 1000 * self.adapter_loads / self.summary.ok if self.summary.ok else 0.0

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "summary": self.summary.to_dict()}


def curve(run: SimulationRun) -> dict[str, list[float]]:
    """Replicas and queue over time, thinned out to about CURVE_POINTS."""
    every = max(1, len(run.samples) // CURVE_POINTS)
    samples = run.samples[::every]
    names = ("at_s", "target", "ready", "occupied", "queued", "asleep")
    return {name: [getattr(one, name) for one in samples] for name in names} | {"gpus": list(run.gpus[::every])}


HEADS = (
    *(("policy", ""), ("within", "SLO"), ("TTFT ms", "p50/p95/p99"), ("TPOT ms", "p50/p95/p99"), ("refused", "")),
    *(("failed", ""), ("replica-s", ""), ("GPU-h", ""), ("of oracle's", "replica-s"), ("actions", "")),
    *(("reversals", ""), ("peak", "replicas"), ("peak", "GPUs")),
)
"""The two lines above a table, by column."""


ADAPTER_HEADS = (("adapter loads", "a 1,000 requests"),)


def table(rows: Sequence[PolicyResult], adapters: bool = False) -> str:
    """Results side by side, a line each, for people; `adapters` shows how often one was loaded."""
    heads = (*HEADS, *ADAPTER_HEADS) if adapters else HEADS
    lines = [(*_row(one), f"{one.loads_a_thousand:,.1f}") if adapters else _row(one) for one in rows]
    return tables.aligned([*zip(*heads, strict=True), *lines], sides="r" * len(heads))


def _row(one: PolicyResult) -> tuple[str, ...]:
    summary = one.summary
    return (
        one.policy,
        f"{summary.share_within_slo:.2%}",
        "/".join(f"{1000 * summary.ttft_s[p]:.0f}" for p in (50, 95, 99)),
        "/".join(f"{1000 * summary.tpot_s[p]:.1f}" for p in (50, 95, 99)),
        str(summary.refused),
        str(summary.failed),
        f"{one.replica_seconds:,.0f}",
        f"{one.gpu_hours:,.2f}",
        f"{one.over_oracle:.2f}x",
        str(one.actions),
        str(one.reversals),
        str(one.peak_replicas),
        str(one.peak_gpus),
    )


def _gpu_seconds(run: SimulationRun) -> float:
    times = [*(one.at_s for one in run.samples), run.until_s]
    spans = zip(run.gpus, pairwise(times), strict=True)
    return sum(gpus * max(0.0, min(after, run.until_s) - at) for gpus, (at, after) in spans)
