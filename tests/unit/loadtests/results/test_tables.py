"""Tables of text cells."""

from __future__ import annotations

from loadtests.results import tables

ROWS = [("", "tokens/s"), ("vllm serve", "9"), ("ours", "1,234")]


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert tables.aligned(ROWS).splitlines() == ["            tokens/s", "vllm serve         9", "ours           1,234"]


def test_a_column_goes_to_the_side_that_is_asked_for() -> None:
    assert tables.aligned(ROWS, "rl").splitlines() == ["            tokens/s", "vllm serve  9", "      ours  1,234"]


def test_no_rows_are_no_lines() -> None:
    assert tables.aligned([]) == ""


def test_markdown() -> None:
    assert tables.markdown(("load", "ratio"), [("ours", "2.00")]).splitlines() == [
        "| load | ratio |",
        "| --- | ---: |",
        "| ours | 2.00 |",
    ]
