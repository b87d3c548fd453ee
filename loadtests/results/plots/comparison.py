"""Contenders of a comparison beside each other."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from loadtests.results.plots.style import BLUE, styled

SHOWN = ("tokens_per_s", "ttft_p50_ms", "tpot_mean_ms")
"""Figures with a column of their own: throughput, time to first token, time of each token after it."""


@styled
def bars(
    title: str,
    loads: Mapping[str, Mapping[str, Mapping[str, float | None]]],
    columns: Mapping[str, tuple[str, str]],
) -> Figure:
    """A row for each load, a column for each figure of SHOWN, a bar for each contender.

    `loads` holds figures by load, contender and key; `columns` by key the figure's title and its format, such as
    `("TTFT p50 ms", "{:.1f}")`.
    """
    figure = Figure(figsize=(5 * len(SHOWN), 1.0 + 2.2 * len(loads)))
    axes = figure.subplots(len(loads), len(SHOWN), squeeze=False, sharey="row")
    for line, (load, rows) in zip(axes, loads.items(), strict=True):
        names = list(rows)[::-1]
        for axis, key in zip(line, SHOWN, strict=True):
            drawn = axis.barh(names, [rows[name][key] for name in names], color=BLUE)
            axis.bar_label(drawn, fmt=columns[key][1], padding=3, fontsize=8)
            axis.set_title(f"{load}: {columns[key][0]}", fontsize=9)
            axis.margins(x=0.2)
            axis.tick_params(labelsize=8)
            axis.grid(axis="y", visible=False)
            axis.set_axisbelow(True)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    return figure
