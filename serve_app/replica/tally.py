"""How much of one thing there was within the last minute and the present day. Reads no clock: times are seconds since
the epoch.

The last minute is the present calendar minute and as much of the one before as is still within 60 s, spread evenly over
it. A day begins at midnight UTC. Tallies of several processes add up.
"""

from __future__ import annotations

from collections.abc import Iterable

MINUTE_S, DAY_S = 60, 86_400
Fact = list[int]
"""A tally as JSON: its minute, what was counted in it and in the one before; its day, what was counted in it."""


class Tally:
    """What one process has counted."""

    __slots__ = ("_before", "_day", "_minute", "_of_day", "_present")

    def __init__(self, fact: Fact | None = None) -> None:
        self._minute, self._present, self._before, self._day, self._of_day = fact or (0, 0, 0, 0, 0)

    def add(self, now: float, amount: int) -> None:
        minute, day = int(now // MINUTE_S), int(now // DAY_S)
        if minute != self._minute:
            self._before = self._present if minute == self._minute + 1 else 0
            self._minute, self._present = minute, 0
        if day != self._day:
            self._day, self._of_day = day, 0
        self._present += amount
        self._of_day += amount

    def minute(self, now: float) -> tuple[int, int]:
        """Counted in the present calendar minute, and in the one before."""
        age = int(now // MINUTE_S) - self._minute
        if age <= 0:
            return self._present, self._before
        return 0, self._present if age == 1 else 0

    def day(self, now: float) -> int:
        return self._of_day if int(now // DAY_S) == self._day else 0

    def fact(self) -> Fact:
        return [self._minute, self._present, self._before, self._day, self._of_day]


def within_minute(tallies: Iterable[Tally], now: float) -> float:
    """Counted by all of them within the last 60 s."""
    present, before = _sums(tallies, now)
    return present + before * (1 - now % MINUTE_S / MINUTE_S)


def within_day(tallies: Iterable[Tally], now: float) -> int:
    return sum(tally.day(now) for tally in tallies)


def minute_wait_s(tallies: Iterable[Tally], now: float, limit: int, amount: float) -> float:
    """Seconds until so much more is within the limit of a minute, if nothing else comes; for more than the limit, until
    all of it is free."""
    present, before = _sums(tallies, now)
    amount, elapsed_s = min(amount, limit), now % MINUTE_S
    if present + amount <= limit:
        free_at = MINUTE_S * (1 - (limit - present - amount) / before) if before else 0.0
        return max(0.0, free_at - elapsed_s)
    return MINUTE_S - elapsed_s + max(0.0, MINUTE_S * (1 - (limit - amount) / present))


def day_wait_s(now: float) -> float:
    """Seconds until the next day."""
    return DAY_S - now % DAY_S


def _sums(tallies: Iterable[Tally], now: float) -> tuple[int, int]:
    counted = [tally.minute(now) for tally in tallies]
    return sum(present for present, _ in counted), sum(before for _, before in counted)
