"""What was within the last minute and the day, and when there is room again."""

from __future__ import annotations

import pytest

from serve_app.replica.tally import Tally, day_wait_s, minute_wait_s, within_day, within_minute

NOON = 20_000 * 86_400 + 43_200.0
"""The beginning of a minute."""


def counted(*at: tuple[float, int]) -> Tally:
    tally = Tally()
    for after, amount in at:
        tally.add(NOON + after, amount)
    return tally


def test_the_minute_before_leaves_evenly() -> None:
    tally = counted((10, 60))
    assert [within_minute([tally], NOON + at) for at in (10, 59.9, 60, 75, 119, 120, 600)] == pytest.approx(
        [60, 60, 60, 45, 1, 0, 0]
    )
    tally.add(NOON + 70, 6)
    assert within_minute([tally, tally], NOON + 75) == 2 * 51


def test_a_day_ends_at_midnight_utc() -> None:
    tally = counted((0, 5), (86_400 / 2 - 1, 6))
    assert [within_day([tally], NOON + at) for at in (0, 43_199, 43_200)] == [11, 11, 0]
    assert day_wait_s(NOON) == 43_200


def test_a_tally_is_read_back_as_it_was_written() -> None:
    tally = Tally(counted((10, 60), (70, 6)).fact())
    assert within_minute([tally], NOON + 75) == 51 and within_day([tally], NOON + 75) == 66


@pytest.mark.parametrize(
    ("tally", "now", "amount", "wait"),
    [
        (counted((10, 59)), 20, 1, 0),
        (counted((10, 60)), 20, 1, 41),
        (counted((10, 60)), 20, 60, 100),
        (counted((10, 60)), 20, 600, 100),
        (counted((10, 60)), 75, 15, 0),
        (counted((10, 60)), 75, 16, 1),
        (counted((10, 60), (70, 15)), 75, 10, 10),
    ],
)
def test_there_is_room_again_when_it_is_told(tally: Tally, now: float, amount: int, wait: float) -> None:
    found = minute_wait_s([tally], NOON + now, 60, amount)
    assert found == pytest.approx(wait)
    assert within_minute([tally], NOON + now + found) + min(amount, 60) <= 60 + 1e-6
