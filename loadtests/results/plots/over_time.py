"""A service under a traffic that changes: load, replicas and how requests were served, over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from matplotlib.figure import Figure

from loadtests.results.percentiles import percentile
from loadtests.results.plots.style import BLUE, GRAY, GREEN, INK, ORANGE, PALE_YELLOW, RED, from_zero, styled
from loadtests.results.record import Record
from loadtests.results.replicas import ReplicaCounts
from loadtests.results.slo import Slo

REPLAY_BINS = 150
POLICY_BINS = 120
"""Points of a curve of requests; each is of the requests due within one bin of time."""
HEIGHTS = {"requests/s": 1.3, "replicas": 1.3, "TTFT, s": 1.1, "TPOT, ms": 1.0, "waiting": 0.8, "errors/s": 0.6}
"""A replay's rows by their label, and how high each is beside the others."""


class OfferedRate(Protocol):
    """The load that a test was asked for."""

    @property
    def duration_s(self) -> float: ...

    def rate_at(self, t_s: float) -> float:
        """Requests/s at a time."""


@dataclass(frozen=True)
class ObservedRun:
    """One run of a service under a load."""

    title: str
    records: Sequence[Record]
    samples: Sequence[ReplicaCounts]
    oracle: Sequence[tuple[float, int]] = ()
    """(from s on, replicas): the fewest that would have held this load."""
    excused: Sequence[tuple[float, float]] = ()
    """Times (from, to in s) that are shaded, because what they hold is not judged."""


@styled
def replays(shown: Sequence[ObservedRun], load: OfferedRate, slo: Slo) -> Figure:
    """Load, replicas, TTFT, TPOT, queue and errors over time; a column for each run."""
    rows: list[Callable[[Any, ObservedRun], None]] = [
        lambda axis, one: _load(axis, one, load, slo),
        lambda axis, one: _replicas(axis, one, load),
        lambda axis, one: _times(axis, one, load, slo, "ttft", lambda r: r.scheduled_ttft_s, 1.0),
        lambda axis, one: _times(axis, one, load, slo, "tpot", lambda r: r.tpot_s, 1000.0),
        _queue,
        lambda axis, one: _errors(axis, one, load),
    ]
    heights = list(HEIGHTS.values())
    figure = Figure(figsize=(1.2 + 4.6 * len(shown), 1.25 * sum(heights) + 0.6))
    axes = figure.subplots(
        len(rows), len(shown), sharex=True, sharey="row", squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for label, draw, line in zip(HEIGHTS, rows, axes, strict=True):
        for column, (axis, one) in enumerate(zip(line, shown, strict=True)):
            draw(axis, one)
            for low, high in one.excused:
                axis.axvspan(low, high, color=PALE_YELLOW, alpha=0.45, linewidth=0)
            if not column:
                axis.set_ylabel(label)
            if column == len(shown) - 1 and axis.get_legend_handles_labels()[0]:
                axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.05), borderaxespad=0.2)
            axis.set_xlim(0, load.duration_s)
    for axis, one in zip(axes[0], shown, strict=True):
        axis.set_title(one.title, fontsize=10, fontweight="bold", color=INK)
    for axis in axes[-1]:
        axis.set_xlabel("seconds")
    figure.tight_layout(h_pad=0.6)
    return figure


@styled
def policies(shown: Sequence[ObservedRun], load: OfferedRate, slo: Slo, oracle: Sequence[tuple[float, int]]) -> Figure:
    """Simulated scaling policies in the same axes: one panel each for load, replicas, service within the SLO, and
    queue. `oracle` is as in ObservedRun."""
    figure = Figure(figsize=(10, 11))
    rate, replicas, within, queue = figure.subplots(4, 1, sharex=True)
    width = load.duration_s / POLICY_BINS
    times = [(i + 0.5) * width for i in range(POLICY_BINS)]
    rate.plot(times, [load.rate_at(t) for t in times], color=INK)
    rate.set_ylabel("requests/s")
    replicas.step(*zip(*oracle, strict=True), where="post", color=INK, linestyle="--", label="oracle's plan")
    for one in shown:
        at = [each.at_s for each in one.samples]
        replicas.step(at, [each.occupied for each in one.samples], where="post", label=one.title)
        groups = _binned(one.records, width, POLICY_BINS, lambda r: r.scheduled_s)
        shares = [sum(map(slo.within, group)) / len(group) if group else math.nan for group in groups]
        within.plot(times, shares, label=one.title)
        queue.plot(at, [each.queued for each in one.samples], label=one.title)
    replicas.set_ylabel("replicas, those starting\nand draining included")
    replicas.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
    within.set_ylabel("within the SLO")
    within.set_ylim(-0.03, 1.03)
    queue.set_ylabel("requests waiting")
    queue.set_yscale("symlog")
    queue.set_xlabel("s")
    for axis in (rate, replicas, queue):
        axis.set_ylim(bottom=0)
    figure.suptitle(f"simulated; SLO {slo}", fontsize=10)
    figure.tight_layout()
    return figure


def _load(axis: Any, one: ObservedRun, load: OfferedRate, slo: Slo) -> None:
    edges, groups = _by_time(one.records, load, lambda r: r.scheduled_s)
    width = edges[1]
    axis.plot(edges, [load.rate_at(t) for t in edges], color=GRAY, lw=1, ls="--", label="asked of the test")
    axis.step(edges, [len(group) / width for group in groups], where="post", color=BLUE, lw=1, label="offered")
    good = [sum(map(slo.within, group)) / width for group in groups]
    axis.fill_between(edges, good, step="post", color=GREEN, alpha=0.35, linewidth=0, label="within the SLO")
    from_zero(axis)


def _replicas(axis: Any, one: ObservedRun, load: OfferedRate) -> None:
    kept = [each for each in one.samples if -1 <= each.at_s <= load.duration_s]
    times = [each.at_s for each in kept]
    occupied = [each.occupied for each in kept]
    axis.fill_between(times, occupied, step="post", color=BLUE, alpha=0.15, linewidth=0, label="occupied")
    axis.step(times, [each.target for each in kept], where="post", color=BLUE, lw=1.2, label="target")
    axis.step(times, [each.ready for each in kept], where="post", color=GREEN, lw=1.2, label="ready")
    if any(each.asleep for each in kept):
        axis.step(times, [each.asleep for each in kept], where="post", color=ORANGE, lw=1.0, ls="--", label="asleep")
    if one.oracle:
        axis.step(*zip(*one.oracle, strict=True), where="post", color=INK, lw=0.9, ls=":", label="oracle")
    from_zero(axis)


def _times(
    axis: Any,
    one: ObservedRun,
    load: OfferedRate,
    slo: Slo,
    name: str,
    of: Callable[[Record], float | None],
    scale: float,
) -> None:
    answered = [each for each in one.records if each.outcome == "ok"]
    edges, groups = _by_time(answered, load, lambda r: r.scheduled_s)
    for percent, color in ((50, GRAY), (95, BLUE), (99, ORANGE)):
        values = [[value for each in group if (value := of(each)) is not None] for group in groups]
        points = [(at, scale * percentile(found, percent)) for at, found in zip(edges, values, strict=True) if found]
        if points:
            axis.plot(*zip(*points, strict=True), color=color, lw=1, label=f"p{percent}")
    if math.isfinite(limit := slo.limit_s(name)):
        axis.axhline(scale * limit, color=RED, lw=0.8, ls="--", label="limit")
    if name == "ttft":
        axis.set_yscale("log")
    else:
        from_zero(axis)


def _queue(axis: Any, one: ObservedRun) -> None:
    times, queued = [each.at_s for each in one.samples], [each.queued for each in one.samples]
    axis.step(times, queued, where="post", color=ORANGE, lw=1)
    from_zero(axis)


def _errors(axis: Any, one: ObservedRun, load: OfferedRate) -> None:
    for outcome, color in (("refused", ORANGE), ("failed", RED)):
        bad = [each for each in one.records if each.outcome == outcome]
        edges, groups = _by_time(bad, load, lambda r: r.ended_s)
        axis.step(edges, [len(group) / edges[1] for group in groups], where="post", color=color, lw=1, label=outcome)
    from_zero(axis, max(1.0, axis.get_ylim()[1]))


def _by_time(
    records: Iterable[Record], load: OfferedRate, at: Callable[[Record], float]
) -> tuple[list[float], list[list[Record]]]:
    """Starts of at most REPLAY_BINS equal bins of time, of at least 1 s each, and the records of each."""
    width = max(1.0, load.duration_s / REPLAY_BINS)
    count = max(2, math.ceil(load.duration_s / width))
    return [i * width for i in range(count)], _binned(records, width, count, at)


def _binned(records: Iterable[Record], width_s: float, count: int, at: Callable[[Record], float]) -> list[list[Record]]:
    """Records by bins of time; what lies before the first or after the last belongs to that one."""
    bins: list[list[Record]] = [[] for _ in range(count)]
    for one in records:
        bins[min(count - 1, max(0, int(at(one) // width_s)))].append(one)
    return bins
