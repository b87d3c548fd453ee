"""The proof of a configuration: what a replay of the traffic came to, and whether that is good enough. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loadtests.loadgen.traffic import Traffic
from loadtests.planner.tuning import oracle
from loadtests.results import replicas
from loadtests.results.record import Record
from loadtests.results.replicas import ReplicaCounts
from loadtests.results.slo import Slo

SPIKE_RATIO = 1.5
"""A rate that grows by this factor at once is a spike, where it also grows by more than one replica carries."""
STEADY_S = 5.0
"""A spike is over for its users when this long stays within the SLO."""


@dataclass(frozen=True)
class Criteria:
    """What a replay must reach to prove a configuration."""

    within: float = 0.99
    """At least this share of requests, 0 to 1, within the SLO, outside the first start-up time after a spike."""
    over_oracle: float = 1.25
    """At most this many replica-seconds, as a multiple of the oracle's."""
    recovery_startups: float = 2.0
    """At most this many start-up times until requests are within the SLO again after a spike."""


@dataclass(frozen=True)
class Check:
    """One criterion, what was reached, and whether that passes; texts are for people."""

    name: str
    value: str
    limit: str
    passed: bool | None
    """None where the figure is told, but nothing is asked of it."""


@dataclass(frozen=True)
class ReplayOutcome:
    """What a replay came to."""

    requests: int
    failed: int
    refused: int
    within: float
    """Share of the requests outside the excused times that were within the SLO; 0 where there were none, which proves
    nothing."""
    within_all: float
    """Share of all requests that were within the SLO."""
    excused: int
    """Requests that were due in the first start-up time after a spike, and so do not count in `within`."""
    replica_seconds: float
    oracle_replica_seconds: float
    recovery_s: float | None
    """From a spike to when requests were within the SLO again, s; the longest of all spikes, None without spikes."""
    actions: int
    """Changes of the number of replicas wanted."""
    reversals: int
    """Changes that took back the one before within `reversal_window_s`."""
    reversal_window_s: float

    @property
    def over_oracle(self) -> float:
        return self.replica_seconds / self.oracle_replica_seconds if self.oracle_replica_seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"over_oracle": self.over_oracle}


def outcome(
    records: Sequence[Record],
    samples: Sequence[ReplicaCounts],
    best: oracle.Oracle,
    *,
    traffic: Traffic,
    slo: Slo,
    capacity: float,
    startup_s: float,
    reversal_window_s: float,
    within: float = Criteria.within,
    standby_cost: float = 1.0,
) -> ReplayOutcome:
    """Sum a replay up. `capacity` is of one replica, requests/s: a rise that one replica carries is no spike.
    `standby_cost` is what a sleeping replica counts, as a share of one that serves."""
    starts = spikes(traffic, capacity)
    counted = [one for one in records if not any(at <= one.scheduled_s < at + startup_s for at in starts)]
    ends = [*starts[1:], traffic.duration_s][: len(starts)]
    recoveries = [recovery_s(records, slo, at, end, within) for at, end in zip(starts, ends, strict=True)]
    return ReplayOutcome(
        requests=len(records),
        failed=sum(one.outcome == "failed" for one in records),
        refused=sum(one.outcome == "refused" for one in records),
        within=_share(counted, slo),
        within_all=_share(records, slo),
        excused=len(records) - len(counted),
        replica_seconds=replicas.replica_seconds(samples, traffic.duration_s, standby_cost),
        oracle_replica_seconds=best.replica_seconds,
        recovery_s=max(recoveries, default=None),
        actions=len(replicas.changes(samples)),
        reversals=replicas.reversals(samples, reversal_window_s),
        reversal_window_s=reversal_window_s,
    )


def checks(found: ReplayOutcome, startup_s: float, target: Criteria) -> list[Check]:
    """Each criterion, and the figures that people want to see beside them, for replicas that start in `startup_s`."""
    recovery_limit = target.recovery_startups * startup_s
    recovered = found.recovery_s
    return [
        Check(
            "requests within the SLO, outside the first start-up time after a spike",
            f"{found.within:.2%} ({found.excused} of {found.requests} excused)",
            f"at least {target.within:.0%}",
            found.within >= target.within,
        ),
        Check(
            "replica-seconds against an oracle that knows the future",
            f"{found.replica_seconds:,.0f} / {found.oracle_replica_seconds:,.0f} = {found.over_oracle:.2f}",
            f"at most {target.over_oracle:g}",
            found.over_oracle <= target.over_oracle,
        ),
        Check(
            "time to recover from a spike",
            "no spike" if recovered is None else f"{recovered:.1f} s",
            "-" if recovered is None else f"at most {recovery_limit:.1f} s ({target.recovery_startups:g} start-ups)",
            None if recovered is None else recovered <= recovery_limit,
        ),
        Check(
            f"reversals within {found.reversal_window_s:g} s",
            f"{found.reversals} of {found.actions} scaling actions",
            "none",
            not found.reversals,
        ),
        Check("failed requests", str(found.failed), "none", not found.failed),
        Check("refused requests (429, 503)", str(found.refused), "-", None),
        Check("requests within the SLO, all of them", f"{found.within_all:.2%}", "-", None),
    ]


def spikes(traffic: Traffic, capacity: float) -> list[float]:
    """Times (s) at which the rate jumps up by SPIKE_RATIO and by more than `capacity`, what one replica carries."""
    times = sorted({t for t, _ in traffic.points if 0 < t < traffic.duration_s})
    found = []
    for t in times:
        before, after = traffic.rate_at(t - 1e-6), traffic.rate_at(t)
        if after >= SPIKE_RATIO * before and after - before > capacity:
            found.append(t)
    return found


def recovery_s(records: Sequence[Record], slo: Slo, spike_s: float, end_s: float, within: float) -> float:
    """From a spike to the first request from which on STEADY_S of them are within the SLO, to the share asked for."""
    after = [one for one in records if spike_s <= one.scheduled_s < end_s]
    good = [slo.within(one) for one in after]
    last = 0
    for first, one in enumerate(after):
        last = max(last, first)
        while last < len(after) and after[last].scheduled_s < one.scheduled_s + STEADY_S:
            last += 1
        if good[first] and sum(good[first:last]) >= within * (last - first):
            return one.scheduled_s - spike_s if first else 0.0
    return end_s - spike_s


def _share(records: Sequence[Record], slo: Slo) -> float:
    return sum(map(slo.within, records)) / len(records) if records else 0.0
