"""How many requests a second are refused for want of a replica: demand that no replica reports and no queue holds."""

from __future__ import annotations

from collections import deque

from serve_app.replica.protocol import RATES_OVER_S


class RefusedRate:
    """Sequences refused a second over the last RATES_OVER_S, from a total that only grows."""

    def __init__(self) -> None:
        self._totals: deque[tuple[float, int]] = deque()

    def add(self, at_s: float, total: int) -> float:
        """Take in the total at a time, on the caller's clock; the rate now."""
        totals = self._totals
        totals.append((at_s, total))
        while len(totals) > 1 and totals[1][0] <= at_s - RATES_OVER_S:
            totals.popleft()
        return (total - totals[0][1]) / RATES_OVER_S
