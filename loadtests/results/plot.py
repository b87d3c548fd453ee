"""A comparison as a PNG: throughput and time to first token of each contender under each load."""

from __future__ import annotations

from pathlib import Path

from loadtests.results.figures import COLUMNS, Results

SHOWN = ("tokens_per_s", "ttft_p50_ms", "tpot_mean_ms")


def draw(results: Results, path: Path) -> None:
    """A row of bars for each load."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    table = results.medians()
    figure, axes = pyplot.subplots(
        len(table), len(SHOWN), figsize=(5 * len(SHOWN), 1.0 + 2.2 * len(table)), squeeze=False, sharey="row"
    )
    for line, (load, rows) in zip(axes, table.items(), strict=True):
        names = list(rows)[::-1]
        for axis, key in zip(line, SHOWN, strict=True):
            bars = axis.barh(names, [rows[name][key] for name in names])
            axis.bar_label(bars, fmt=COLUMNS[key][1], padding=3, fontsize=8)
            axis.set_title(f"{load}: {COLUMNS[key][0]}", fontsize=9)
            axis.margins(x=0.2)
            axis.tick_params(labelsize=8)
    figure.suptitle(f"{results.suite}, {results.about['gpu'] or 'CPU'}, {results.about['date']}", fontsize=10)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
