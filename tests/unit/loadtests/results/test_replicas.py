"""What samples of replicas come to."""

from __future__ import annotations

import pytest

from loadtests.results import replicas
from tests.unit.loadtests.samples import samples


def test_startup_times_are_read_from_orders_and_arrivals() -> None:
    seen = samples((0, 1, 1), (10, 3, 1), (16, 3, 2), (18, 3, 3), (30, 1, 1), (40, 2, 1), (42, 1, 1))
    assert replicas.startups(seen) == [6, 8]


@pytest.mark.parametrize(
    ("targets", "count"),
    [
        ([(0, 1), (5, 4), (30, 2)], 0),
        ([(0, 1), (5, 4), (14, 2)], 1),
        ([(0, 1), (5, 2), (8, 3), (30, 2), (33, 1)], 0),
        ([(0, 3), (5, 2), (8, 3), (11, 2)], 2),
    ],
)
def test_a_reversal_takes_back_a_change_too_soon(targets: list[tuple[float, int]], count: int) -> None:
    assert replicas.reversals(samples(*((at, n, n) for at, n in targets)), 10.0) == count
