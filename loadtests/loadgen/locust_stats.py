"""LLM figures in Locust's statistics: rows beside its own for its web UI and CSV files, and the summary of a test."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import locust.stats
from locust.stats import RequestStats, StatsEntry

from loadtests.loadgen.process_report import ProcessReport
from loadtests.results import tables
from loadtests.results.counts import OutcomeCounts
from loadtests.results.percentiles import percentile_of_counts
from loadtests.results.record import Record
from loadtests.results.slo import Slo, Term

E2E, TTFT, TPOT, ITL, REFUSED, LATE = "E2E", "TTFT", "TPOT", "ITL", "REFUSED", "LATE"
"""Request types of the rows. Only E2E counts as a request in Locust's totals."""
ARRIVALS = "arrivals"
"""Name of the row of the schedule's own lateness."""
LATE_MS = 20.0
"""A schedule later than this at its 99th percentile is not the traffic that was asked for."""
BUSY_CORES = 0.9


def three_digits(milliseconds: float) -> float:
    """Locust's bucket of a response time, to three digits: its own are whole ms, and a TPOT is often below 10."""
    if milliseconds <= 0:
        return 0.0
    return round(milliseconds, 2 - math.floor(math.log10(milliseconds)))


def install() -> None:
    """Let Locust keep three digits (its documentation names this function as the place)."""
    locust.stats.bucket_response_time = three_digits  # type: ignore[assignment]


def log(stats: RequestStats, name: str, record: Record, gaps: Iterable[float], open_loop: bool) -> None:
    """Put one request into the rows of that name that are not Locust's own."""
    if open_loop:
        _add(stats, LATE, ARRIVALS, record.late_s)
    if record.outcome == "refused":
        _add(stats, REFUSED, name, record.latency_s)
    if record.outcome != "ok":
        return
    if record.scheduled_ttft_s is not None:
        _add(stats, TTFT, name, record.scheduled_ttft_s)
    if record.tpot_s is not None:
        _add(stats, TPOT, name, record.tpot_s)
    for gap in gaps:
        _add(stats, ITL, name, gap)


def percentile_ms(
    stats: RequestStats, kind: str, percent: float, unanswered: int = 0, only: str | None = None
) -> float:
    """Of a kind of row, ms, over all names or of one of them; `unanswered` requests count as endless."""
    times: Counter[float] = Counter()
    for entry in _rows(stats, kind):
        if only is None or entry.name == only:
            times.update(entry.response_times)
    if unanswered:
        times[math.inf] += unanswered
    return percentile_of_counts(times, percent)


def summary(stats: RequestStats, report: ProcessReport, slo: Slo) -> str:
    """The end of a test, for people."""
    total = report.total()
    seconds = report.ended_s
    lines = [
        f"{total.requests:,} requests in {report.ended_s:.1f} s: {total.ok:,} ok, {total.refused:,} refused (429, 503"
        f" not ready), {total.failed:,} failed",
        f"output {total.throughput(seconds):,.1f} tokens/s, prompts {total.prompt_throughput(seconds):,.1f} tokens/s",
        f"goodput {total.goodput(seconds):,.2f} requests/s: {total.share_within_slo:.1%} of all within {slo}",
        f"SLO {_verdict(stats, slo, total)}",
    ]
    for kind in (TTFT, TPOT, ITL, E2E):
        if _rows(stats, kind):
            shown = ", ".join(f"p{p} {percentile_ms(stats, kind, p):,.1f}" for p in (50, 90, 95, 99))
            lines.append(f"{kind:4} ms: {shown}")
    lines += [f"{count:,} x {kind}" for kind, count in total.errors.most_common()]
    if report.busiest:
        late = f", schedule {percentile_ms(stats, LATE, 99):.1f} ms late (p99)" if _rows(stats, LATE) else ""
        lines.append(f"client: {max(report.busiest.values()):.0%} of a core in its busiest process{late}")
    if len(report.rows) > 1:
        lines += by_row(stats, report).splitlines()
    return "\n".join(["", "LLM load test", *(f"  {line}" for line in [*lines, *warnings(stats, report)]), ""])


def by_row(stats: RequestStats, report: ProcessReport) -> str:
    """A line for each scenario, or for each model's, where there are several."""
    heads = ["", "ok", "refused", "failed", "tokens/s", "goodput/s", "TTFT p50 ms", "p95", "TPOT p50 ms", "p95"]
    lines = [heads]
    for name, counts in sorted(report.rows.items()):
        times = (percentile_ms(stats, kind, p, only=name) for kind in (TTFT, TPOT) for p in (50, 95))
        rates = counts.throughput(report.ended_s), counts.goodput(report.ended_s)
        ended = (f"{count:,}" for count in (counts.ok, counts.refused, counts.failed))
        lines.append([name, *ended, f"{rates[0]:,.1f}", f"{rates[1]:,.2f}", *(f"{ms:,.1f}" for ms in times)])
    return tables.aligned(lines)


def progress(report: ProcessReport) -> str:
    """How far a test is, in a line."""
    total = report.total()
    counts = f"{total.ok:,} ok, {total.refused:,} refused, {total.failed:,} failed"
    return f"after {report.ended_s:.0f} s: {counts}, {total.share_within_slo:.1%} within the SLO"


def warnings(stats: RequestStats, report: ProcessReport) -> list[str]:
    """Why the figures may be the client's and not the service's."""
    found = []
    if busy := {name: cores for name, cores in report.busiest.items() if cores > BUSY_CORES}:
        which = ", ".join(f"{name} {cores:.0%}" for name, cores in sorted(busy.items()))
        found.append(f"!!! THE CLIENT WAS A BOTTLENECK: CPU of {which} of a core. Give it more --processes.")
    late = percentile_ms(stats, LATE, 99)
    if late > LATE_MS:
        found.append(f"!!! THE CLIENT WAS LATE: its schedule ran {late:.0f} ms behind (p99). Give it more cores.")
    return found


def table(stats: RequestStats, report: ProcessReport) -> list[dict[str, Any]]:
    """A row for each scenario, or for each model's, for the web UI."""
    seconds = report.ended_s
    rows: dict[str, OutcomeCounts] = dict(sorted(report.rows.items()))
    if len(rows) != 1:
        rows["all"] = report.total()
    note = " ".join(warnings(stats, report))
    return [
        {
            "name": name,
            "ok": counts.ok,
            "refused": counts.refused,
            "failed": counts.failed,
            "tokens": f"{counts.throughput(seconds):,.1f}",
            "goodput": f"{counts.goodput(seconds):,.2f}",
            "share": f"{counts.share_within_slo:.1%}",
            "errors": ", ".join(f"{count} x {kind}" for kind, count in counts.errors.most_common()),
            "note": note,
        }
        for name, counts in rows.items()
    ]


COLUMNS = {
    "name": "Scenario",
    "ok": "Answered",
    "refused": "Refused",
    "failed": "Failed",
    "tokens": "Output tokens/s",
    "goodput": "Goodput, requests/s",
    "share": "Within the SLO",
    "errors": "Errors",
    "note": "The client",
}
"""Of the table, by key."""


def _verdict(stats: RequestStats, slo: Slo, total: OutcomeCounts) -> str:
    if not total.requests:
        return "not tested: nothing was sent"
    missed = [f"{_reached(stats, term, total)}" for term in slo.terms if not _holds(stats, term, total)]
    return f"missed: {', '.join(missed)}" if missed else "holds"


def _reached(stats: RequestStats, term: Term, total: OutcomeCounts) -> str:
    reached = percentile_ms(stats, term.figure.upper(), term.percentile, total.refused + total.failed)
    return f"{term} was {reached:,.1f} ms" if math.isfinite(reached) else f"{term}: too many without an answer"


def _holds(stats: RequestStats, term: Term, total: OutcomeCounts) -> bool:
    unanswered = total.refused + total.failed
    return percentile_ms(stats, term.figure.upper(), term.percentile, unanswered) <= term.limit_s * 1000


def _add(stats: RequestStats, kind: str, name: str, seconds: float) -> None:
    stats.entries[(name, kind)].log(seconds * 1000, 0)  # type: ignore[arg-type]


def _rows(stats: RequestStats, kind: str) -> list[StatsEntry]:
    return [entry for (_, method), entry in list(stats.entries.items()) if method == kind]
