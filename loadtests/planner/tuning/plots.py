"""The plots of a tuning's report, as SVG texts or PNG files."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.figure import Figure

from loadtests.loadgen.traffic import Traffic
from loadtests.planner.tuning.knee import Knee, wilson
from loadtests.planner.tuning.oracle import Oracle
from loadtests.planner.tuning.step import Step
from loadtests.results.record import Record
from loadtests.results.replicas import ReplicaCounts
from loadtests.results.slo import Slo, percentile

BINS = 150
INK, GRAY, BLUE, GREEN, ORANGE, RED = "#1f2937", "#9ca3af", "#2563eb", "#059669", "#d97706", "#dc2626"
STYLE = {
    "font.size": 8.5,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRAY,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "tune",
}


@dataclass(frozen=True)
class Replayed:
    """One replay, as it is drawn."""

    title: str
    records: Sequence[Record]
    samples: Sequence[ReplicaCounts]
    oracle: Oracle
    excused: Sequence[tuple[float, float]]
    """Times (s) that the proof leaves out: from each spike, one start-up time."""


def replays(shown: Sequence[Replayed], traffic: Traffic, slo: Slo) -> Figure:
    """Load, replicas, TTFT, TPOT, queue and errors over time; a column for each replay."""
    with matplotlib.rc_context(STYLE):
        rows: list[tuple[str, Callable[[Any, Replayed], None]]] = [
            ("requests/s", lambda axis, one: _load(axis, one, traffic, slo)),
            ("replicas", lambda axis, one: _replicas(axis, one, traffic)),
            ("TTFT, s", lambda axis, one: _times(axis, one, traffic, slo, "ttft", lambda r: r.scheduled_ttft_s, 1.0)),
            ("TPOT, ms", lambda axis, one: _times(axis, one, traffic, slo, "tpot", lambda r: r.tpot_s, 1000.0)),
            ("waiting", _queue),
            ("errors/s", lambda axis, one: _errors(axis, one, traffic)),
        ]
        heights = [1.3, 1.3, 1.1, 1.0, 0.8, 0.6]
        figure, axes = pyplot.subplots(
            len(rows),
            len(shown),
            figsize=(1.2 + 4.6 * len(shown), 1.25 * sum(heights) + 0.6),
            sharex=True,
            sharey="row",
            squeeze=False,
            gridspec_kw={"height_ratios": heights},
        )
        for (label, draw), line in zip(rows, axes, strict=True):
            for column, (axis, one) in enumerate(zip(line, shown, strict=True)):
                draw(axis, one)
                for low, high in one.excused:
                    axis.axvspan(low, high, color="#fde68a", alpha=0.45, linewidth=0)
                if not column:
                    axis.set_ylabel(label)
                if column == len(shown) - 1 and axis.get_legend_handles_labels()[0]:
                    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.05), borderaxespad=0.2)
                axis.set_xlim(0, traffic.duration_s)
        for axis, one in zip(axes[0], shown, strict=True):
            axis.set_title(one.title, fontsize=10, fontweight="bold", color=INK)
        for axis in axes[-1]:
            axis.set_xlabel("seconds")
        figure.tight_layout(h_pad=0.6)
        return figure


def knee(steps: Sequence[Step], found: Knee, slo: Slo) -> Figure:
    """Share of requests within each limit, and the percentiles, by offered rate."""
    with matplotlib.rc_context(STYLE):
        figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(11, 3.1))
        colors = dict(zip(("ttft", "tpot", "e2e"), (BLUE, ORANGE, GREEN), strict=True))
        rates = sorted({one.rate for one in steps})
        for i, term in enumerate(slo.terms, 1):
            shares, errors = [], []
            for rate in rates:
                blocks = [block for one in steps if one.rate == rate for block in one.blocks]
                total, kept = sum(b[0] for b in blocks), sum(b[i] for b in blocks)
                low, high = wilson(kept, total)
                share = kept / max(total, 1)
                shares.append(100 * share)
                errors.append((100 * max(0.0, share - low), 100 * max(0.0, high - share)))
            color = colors[term.figure]
            left.errorbar(
                rates,
                shares,
                list(zip(*errors, strict=True)),
                fmt="o-",
                ms=3.5,
                lw=1,
                capsize=2,
                color=color,
                label=str(term),
            )
            left.axhline(term.percentile, color=color, lw=0.8, ls=":")
        left.set(ylabel="% of requests within the limit", ylim=(max(0, left.get_ylim()[0]), 101))
        for axis, name, scale in ((middle, "ttft", 1.0), (right, "tpot", 1.0)):
            for percent, color in (("p50", GRAY), ("p95", colors[name])):
                points = [(one.rate, getattr(one, f"{name}_ms")[percent] * scale) for one in steps]
                axis.plot(
                    *zip(*sorted(points), strict=True),
                    "o-",
                    ms=3.5,
                    lw=1,
                    color=color,
                    label=f"{name.upper()} {percent}",
                )
            if math.isfinite(limit := slo.limit_s(name)):
                axis.axhline(1000 * limit, color=RED, lw=0.8, ls="--", label="limit")
            axis.set(ylabel=f"{name.upper()}, ms", ylim=(0, None))
        for axis in (left, middle, right):
            axis.axvspan(found.low, found.high, color="#d1fae5", linewidth=0, zorder=0)
            axis.axvline(found.rate, color=GREEN, lw=1.2)
            axis.set_xlabel("offered requests/s")
            axis.legend(loc="best")
        figure.tight_layout()
        return figure


def svg(figure: Figure) -> str:
    """As an element to stand in HTML; the figure is closed."""
    file = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    text = file.getvalue()
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'width="100%"', text[text.index("<svg") :], count=1)


def png(figure: Figure, path: Path) -> None:
    """As a file; the figure is closed."""
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _load(axis: Any, one: Replayed, traffic: Traffic, slo: Slo) -> None:
    edges, groups = _bins(one.records, traffic, lambda r: r.scheduled_s)
    width = edges[1]
    axis.plot(edges, [traffic.rate_at(t) for t in edges], color=GRAY, lw=1, ls="--", label="asked of the test")
    axis.step(edges, [len(group) / width for group in groups], where="post", color=BLUE, lw=1, label="offered")
    good = [sum(map(slo.within, group)) / width for group in groups]
    axis.fill_between(edges, good, step="post", color=GREEN, alpha=0.35, linewidth=0, label="within the SLO")
    _from_zero(axis)


def _replicas(axis: Any, one: Replayed, traffic: Traffic) -> None:
    kept = [each for each in one.samples if -1 <= each.at_s <= traffic.duration_s]
    times = [each.at_s for each in kept]
    axis.fill_between(
        times, [each.occupied for each in kept], step="post", color=BLUE, alpha=0.15, linewidth=0, label="occupied"
    )
    axis.step(times, [each.target for each in kept], where="post", color=BLUE, lw=1.2, label="target")
    axis.step(times, [each.ready for each in kept], where="post", color=GREEN, lw=1.2, label="ready")
    ideal = one.oracle
    axis.step(
        [i * ideal.step_s for i in range(len(ideal.replicas))],
        ideal.replicas,
        where="post",
        color=INK,
        lw=0.9,
        ls=":",
        label="oracle",
    )
    _from_zero(axis)


def _times(
    axis: Any, one: Replayed, traffic: Traffic, slo: Slo, name: str, of: Callable[[Record], float | None], scale: float
) -> None:
    answered = [each for each in one.records if each.outcome == "ok"]
    edges, groups = _bins(answered, traffic, lambda r: r.scheduled_s)
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
        _from_zero(axis)


def _queue(axis: Any, one: Replayed) -> None:
    axis.step(
        [each.at_s for each in one.samples], [each.queued for each in one.samples], where="post", color=ORANGE, lw=1
    )
    _from_zero(axis)


def _errors(axis: Any, one: Replayed, traffic: Traffic) -> None:
    for outcome, color in (("refused", ORANGE), ("failed", RED)):
        bad = [each for each in one.records if each.outcome == outcome]
        edges, groups = _bins(bad, traffic, lambda r: r.ended_s)
        axis.step(edges, [len(group) / edges[1] for group in groups], where="post", color=color, lw=1, label=outcome)
    _from_zero(axis, max(1.0, axis.get_ylim()[1]))


def _bins(
    records: Iterable[Record], traffic: Traffic, at: Callable[[Record], float]
) -> tuple[list[float], list[list[Record]]]:
    """Starts of equal stretches of time, and the records of each; what is later belongs to the last."""
    width = max(1.0, traffic.duration_s / BINS)
    count = max(2, math.ceil(traffic.duration_s / width))
    groups: list[list[Record]] = [[] for _ in range(count)]
    for one in records:
        groups[min(count - 1, max(0, int(at(one) // width)))].append(one)
    return [i * width for i in range(count)], groups


def _from_zero(axis: Any, top: float | None = None) -> None:
    """The y axis begins at 0; what a neighbour that shares it draws later may still lengthen it."""
    axis.set_ylim(0, top, auto=None)
