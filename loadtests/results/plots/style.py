"""What all plots share: colours, axes, how a figure is made, and how it is saved."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
from matplotlib.figure import Figure

INK, GRAY, BLUE, GREEN, ORANGE, RED = "#1f2937", "#9ca3af", "#2563eb", "#059669", "#d97706", "#dc2626"
PALE_GREEN, PALE_YELLOW = "#d1fae5", "#fde68a"
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
"""matplotlib's rcParams; the salt makes the ids inside an SVG, and so the file, the same in each run."""
DPI = 110
"""Of a PNG."""

P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """The function, drawing in STYLE."""

    @wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapped


def svg(figure: Figure) -> str:
    """The figure as an `<svg>` element as wide as the HTML that it stands in."""
    file = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'width="100%"', text[text.index("<svg") :], count=1)


def png(figure: Figure, path: Path) -> None:
    """The figure as a file; folders that are missing are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)


def from_zero(axis: Any, top: float | None = None) -> None:
    """Let the y axis begin at 0; what a neighbour that shares it draws later may still lengthen it."""
    axis.set_ylim(0, top, auto=None)
