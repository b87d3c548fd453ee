"""What became of a configuration under a traffic, and whether that is good enough. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loadtests.loadgen.traffic import Traffic
from loadtests.planner.proof.probes import ProbeAnswer
from loadtests.planner.tuning import prove
from loadtests.planner.tuning.prove import Check
from loadtests.results import replicas
from loadtests.results.percentiles import percentile
from loadtests.results.record import Record
from loadtests.results.replicas import ReplicaCounts
from loadtests.results.slo import Slo
from loadtests.results.summary import Summary

SOON_S = 1.0
"""A refusal, or a page, that takes longer is late."""
WITHIN = 0.99
"""Share of the requests that must be within the SLO, 0 to 1, from one start-up time after each jump on."""


@dataclass(frozen=True, kw_only=True)
class PageFigures:
    """How soon one page answered."""

    asked: int
    unanswered: int
    p99_s: float
    slowest_s: float


@dataclass(frozen=True, kw_only=True)
class Proof:
    """One configuration under one traffic, in figures. Times are in s; moments count from the start of the traffic."""

    requests: int
    answered: int
    refused: int
    failed: int
    errors: dict[str, int]
    """Requests refused or failed, by kind."""
    refused_p99_s: float
    """From sending a request to the end of its refusal; 0 where none was refused."""
    refused_slowest_s: float
    pages: dict[str, PageFigures]
    jumps: tuple[float, ...]
    """When the traffic jumped up."""
    ordered_s: float | None
    """From the first jump until more replicas were wanted; None where that did not happen."""
    startups: tuple[float, ...]
    """How long each ordered replica took to serve."""
    excused_s: float
    """What is excused after each jump: until more replicas were ordered, and their start-up time, which is as given,
    else the longest of `startups`."""
    within: float
    """Share of requests within the SLO, outside the times that are excused."""
    within_all: float
    recovery_s: float | None
    """From a jump to when requests were within the SLO again; the longest, None without a jump."""
    most_ready: int
    after: dict[str, Any]
    """The Summary of the requests outside the times that are excused."""
    late_p99_s: float
    """How much later than due the client sent its requests."""
    killed_at_s: float | None
    """When an engine was killed."""
    overload: bool
    """Whether refusals were left out of `within`."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def proof(
    records: Sequence[Record],
    samples: Sequence[ReplicaCounts],
    answers: Sequence[ProbeAnswer],
    *,
    traffic: Traffic,
    slo: Slo,
    startup_s: float | None = None,
    killed_at_s: float | None = None,
    overload: bool = False,
) -> Proof:
    """Sum up a replay. `startup_s` is the longest start that was seen unless it is given. With `overload` more comes
    than the service should take: what it refuses does not count against it."""
    jumps = prove.spikes(traffic, 0.0)
    startups = replicas.startups(samples)
    ordered_s = _ordered_s(samples, jumps)
    excused_s = (ordered_s or 0.0) + (max(startups, default=0.0) if startup_s is None else startup_s)
    judged = [one for one in records if not (overload and one.outcome == "refused")]
    counted = [one for one in judged if not any(at <= one.scheduled_s < at + excused_s for at in jumps)]
    refusals = [one.latency_s for one in records if one.outcome == "refused"]
    ends = [*jumps[1:], traffic.duration_s][: len(jumps)]
    whole, after = Summary.of(records, slo), Summary.of(counted, slo)
    return Proof(
        requests=whole.requests,
        answered=whole.ok,
        refused=whole.refused,
        failed=whole.failed,
        errors=dict(Counter(one.detail for one in records if one.outcome != "ok")),
        refused_p99_s=percentile(refusals, 99),
        refused_slowest_s=max(refusals, default=0.0),
        pages={page: _figures(page, answers) for page in sorted({one.page for one in answers})},
        jumps=tuple(jumps),
        ordered_s=ordered_s,
        startups=tuple(startups),
        excused_s=excused_s,
        within=after.share_within_slo if counted else 0.0,
        within_all=whole.share_within_slo,
        recovery_s=max(
            (prove.recovery_s(records, slo, at, end, WITHIN) for at, end in zip(jumps, ends, strict=True)), default=None
        ),
        most_ready=max((one.ready for one in samples), default=0),
        after=after.to_dict(),
        late_p99_s=whole.late_s[99],
        killed_at_s=killed_at_s,
        overload=overload,
    )


def checks(found: Proof) -> list[Check]:
    """Each criterion, and the figures that people want to see beside them. Where an engine was killed, requests that
    failed with it are told, and do not fail the proof."""
    after, recovered = found.after, found.recovery_s
    within = "answered within the SLO" if found.overload else "within the SLO"
    rows = [
        Check(
            "failed requests",
            f"{found.failed} of {found.requests:,}",
            "none" if found.killed_at_s is None else "-",
            not found.failed if found.killed_at_s is None else None,
        ),
        Check(
            "slowest refusal",
            f"{found.refused_slowest_s:.2f} s, p99 {found.refused_p99_s:.2f} s, of {found.refused:,}",
            f"at most {SOON_S:g} s",
            found.refused_slowest_s <= SOON_S,
        ),
        *(
            Check(
                f"slowest {page}",
                f"{one.slowest_s:.2f} s, p99 {one.p99_s:.2f} s, {one.unanswered} of {one.asked} unanswered",
                f"at most {SOON_S:g} s",
                not one.unanswered and one.slowest_s <= SOON_S,
            )
            for page, one in found.pages.items()
        ),
        Check(
            f"{within}, from {found.excused_s:.1f} s after each jump" if found.jumps else within,
            f"{found.within:.2%} of {after['requests']:,}",
            f"at least {WITHIN:.0%}",
            found.within >= WITHIN,
        ),
    ]
    told = {
        "within the SLO, all of them": f"{found.within_all:.2%}",
        "replicas ordered after the jump": "-" if found.ordered_s is None else f"{found.ordered_s:.1f} s",
        "from order to serving": ", ".join(f"{one:.1f}" for one in found.startups) + " s" if found.startups else "-",
        "within the SLO again after the jump": "-" if recovered is None else f"{recovered:.1f} s",
        "replicas at most": str(found.most_ready),
        "TTFT p50 / p95 / p99, after": " / ".join(f"{1000 * after['ttft_s'][p]:.0f}" for p in (50, 95, 99)) + " ms",
        "TPOT p50 / p95 / p99, after": " / ".join(f"{1000 * after['tpot_s'][p]:.1f}" for p in (50, 95, 99)) + " ms",
        "client late, p99": f"{1000 * found.late_p99_s:.0f} ms",
        **{f"  {kind}": f"{count:,}" for kind, count in sorted(found.errors.items())},
    }
    return rows + [Check(name, value, "-", None) for name, value in told.items()]


def _figures(page: str, answers: Sequence[ProbeAnswer]) -> PageFigures:
    took = [one.took_s for one in answers if one.page == page]
    return PageFigures(
        asked=len(took),
        unanswered=sum(one.page == page and one.status is None for one in answers),
        p99_s=percentile(took, 99),
        slowest_s=max(took),
    )


def _ordered_s(samples: Sequence[ReplicaCounts], jumps: Sequence[float]) -> float | None:
    """From the first jump until more replicas were wanted than just before it."""
    if not jumps:
        return None
    before = max((one.target for one in samples if one.at_s <= jumps[0]), default=0)
    return next((one.at_s - jumps[0] for one in samples if one.at_s > jumps[0] and one.target > before), None)
