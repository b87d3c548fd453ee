"""Tables of text cells: aligned columns for a terminal, or Markdown.

The commands of the load tests print each of their tables with one of these two functions; what a cell says, its unit
and its digits included, is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence

RULES = {"l": "---", "r": "---:"}
"""What stands below a heading in Markdown."""


def aligned(rows: Sequence[Sequence[str]], sides: str = "") -> str:
    """Rows of equal length as lines, each column as wide as its widest cell, two spaces between columns.

    Headings are rows like the others; there may be several. `sides` has a letter for each column, `l` or `r`; without
    it, the first is aligned to the left and the others to the right.
    """
    sides = sides or _default(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, widths, sides, strict=True)
        lines.append("  ".join(cell.ljust(width) if side == "l" else cell.rjust(width) for cell, width, side in cells))
    return "\n".join(line.rstrip() for line in lines)


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]], sides: str = "") -> str:
    """A table in GitHub's Markdown, without a line's end after it; `sides` as of `aligned`."""
    sides = sides or _default([heads])
    lines = [heads, [RULES[side] for side in sides], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _default(rows: Sequence[Sequence[str]]) -> str:
    return "l" + "r" * (len(rows[0]) - 1) if rows else ""
