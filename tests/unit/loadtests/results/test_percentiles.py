"""Percentiles by nearest rank."""

from __future__ import annotations

from collections import Counter

import pytest

from loadtests.results.percentiles import percentile, percentile_of_counts


def test_percentiles_are_of_the_nearest_rank() -> None:
    values = [float(i) for i in range(100, 0, -1)]
    assert [percentile(values, p) for p in (0, 50, 95, 99.5, 100)] == [1, 50, 95, 100, 100]
    assert percentile([], 95) == 0


@pytest.mark.parametrize("percent", [0, 33, 50, 95, 99.5, 100])
def test_values_and_their_counts_have_one_percentile(percent: float) -> None:
    values = [float(i % 7) for i in range(50)]
    assert percentile_of_counts(Counter(values), percent) == percentile(values, percent)
    assert percentile_of_counts({}, percent) == 0
