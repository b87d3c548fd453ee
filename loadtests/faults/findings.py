"""What became of a service's clients while a fault was done to it, in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from loadtests.faults.clients import Told
from loadtests.faults.injuries import Injury
from loadtests.results.percentiles import percentile
from loadtests.results.tables import aligned

RECOVERY_S = 10.0
"""Full capacity is to be back within this and a replica's start."""
MOST_KINDS = 3
"""Of processes that the table names."""
HEADS = ("FAULT", "STREAMS", "LOST", "GAP P99", "SHORT", "LOST", "AGAIN", "WHOLE AFTER", "LEFT BEHIND", "")


@dataclass(frozen=True)
class Span:
    """When a fault was done and what the service was like, times in seconds since the epoch."""

    began: float
    ended: float
    whole_after_s: float | None
    """Until the service was as before; None where it was not."""
    left: Mapping[str, int]
    """Processes there are more, or fewer, than before, by kind."""
    said: str = ""


@dataclass(frozen=True)
class Finding:
    """One fault and what came of it."""

    fault: str
    streams: int
    """That were open while it lasted."""
    lost: int
    reasons: dict[str, int]
    """Of the streams that were lost."""
    p99_gap_s: float
    """Of the longest wait between two texts in each of them."""
    short: int
    """Requests of the open loop."""
    short_lost: int
    sent_again: int
    """Requests of both that were sent again, as their connection was closed before an answer began."""
    whole_after_s: float | None
    left: dict[str, int]
    said: str
    passed: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def finding(injury: Injury, told: Iterable[Told], span: Span, start_s: float) -> Finding:
    """`told` is of all requests of the run; `start_s` is how long a replica takes to start."""
    during = [one for one in told if one.ended >= span.began and one.began <= span.ended]
    streams = [one for one in during if one.streamed]
    lost = [one for one in streams if one.outcome == "lost"]
    short = [one for one in during if not one.streamed]
    worst = [max((gap for at, gap in one.gaps if at >= span.began), default=0.0) for one in streams]
    at_once = all("silent" not in one.reason for one in lost)
    good = (not lost or injury.own_connection) and at_once
    back = span.whole_after_s is not None and span.whole_after_s <= RECOVERY_S + start_s
    return Finding(
        fault=injury.name,
        streams=len(streams),
        lost=len(lost),
        reasons=dict(Counter(one.reason for one in lost)),
        p99_gap_s=round(percentile(worst, 99), 3),
        short=len(short),
        short_lost=sum(one.outcome == "lost" for one in short),
        sent_again=sum(one.sent_again for one in during),
        whole_after_s=None if span.whole_after_s is None else round(span.whole_after_s, 1),
        left=dict(span.left),
        said=span.said,
        passed=good and back if injury.survives else at_once,
    )


def table(findings: Iterable[Finding]) -> str:
    """For a terminal."""
    return aligned([HEADS, *(_row(one) for one in findings)], "lrrrrrrrll")


def _row(one: Finding) -> tuple[str, ...]:
    why = "; ".join(f"{count} {reason}" for reason, count in one.reasons.items())
    kinds = [f"{count:+d} {kind}" for kind, count in one.left.items()]
    left = ", ".join(kinds) if len(kinds) <= MOST_KINDS else f"{sum(one.left.values()):+d} of {len(kinds)} kinds"
    whole = "never" if one.whole_after_s is None else f"{one.whole_after_s:g} s"
    notes = "; ".join(filter(None, (why, one.said)))
    return (
        f"{'' if one.passed else '! '}{one.fault}",
        f"{one.streams:,}",
        f"{one.lost:,}",
        f"{one.p99_gap_s:.2f} s",
        f"{one.short:,}",
        f"{one.short_lost:,}",
        f"{one.sent_again:,}",
        whole,
        left or "nothing",
        notes,
    )
