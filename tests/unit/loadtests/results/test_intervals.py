"""Intervals of a share."""

from __future__ import annotations

import pytest

from loadtests.results.intervals import wilson


def test_wilson_is_wide_for_few_and_stays_within_zero_and_one() -> None:
    low, high = wilson(10, 10)
    assert low == pytest.approx(0.7225, abs=0.001)
    assert high == pytest.approx(1.0)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(950, 1000)[0] > wilson(19, 20)[0]
