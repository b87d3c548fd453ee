"""What happened over the last minutes, a point every few seconds, in the console's memory alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from serve_app.console.exposed import Grown, percentile

KEPT_S = 900.0
SHARES = (0.5, 0.95, 0.99)
PERCENTILES_OVER = 5
"""Points whose requests one point's percentiles are of: a single point of 2 s has too few."""
DIGITS = 4

Point = dict[str, Any]


class History:
    """One model's."""

    def __init__(self) -> None:
        self._points: deque[Point] = deque()
        self._grown: deque[Grown] = deque(maxlen=PERCENTILES_OVER)

    def add(self, at: float, over_s: float, grown: Grown, gauges: Mapping[str, float]) -> None:
        """What has grown over the last `over_s`, and how it is `at` (seconds since the epoch)."""
        self._grown.append(grown)
        point: Point = {"at": round(at, 3)}
        rates = _by_outcome(grown.by_status) | {"output": grown.output, "prompt": grown.prompt}
        point |= {name: round(value / over_s, DIGITS) for name, value in rates.items()}
        # Engines that count no times are told by the ingress, which sees their first bytes.
        ttft = _sum(one.ttft for one in self._grown) or _sum(one.first_byte for one in self._grown)
        point["ttft"] = _percentiles(ttft)
        point["tpot"] = _percentiles(_sum(one.tpot for one in self._grown))
        point |= {name: round(value, DIGITS) for name, value in gauges.items()}
        self._points.append(point)
        while self._points[0]["at"] < at - KEPT_S:
            self._points.popleft()

    def since(self, at: float) -> list[Point]:
        """Those after this time, the oldest first."""
        return [point for point in self._points if point["at"] > at]


def _by_outcome(by_status: Mapping[str, float]) -> dict[str, float]:
    """`left` are those whose client went before its answer began."""
    found = dict.fromkeys(("answered", "refused", "failed", "left"), 0.0)
    for status, count in by_status.items():
        if status == "499":
            found["left"] += count
        elif status.startswith("2"):
            found["answered"] += count
        elif status.startswith("4") or status == "503":
            found["refused"] += count
        else:
            found["failed"] += count
    return found


def _sum(all_buckets: Iterable[Mapping[float, float]]) -> dict[float, float]:
    found: dict[float, float] = {}
    for buckets in all_buckets:
        for upper, count in buckets.items():
            found[upper] = found.get(upper, 0.0) + count
    return found


def _percentiles(buckets: dict[float, float]) -> list[float | None]:
    found = (percentile(buckets, share) for share in SHARES)
    return [None if value is None else round(value, 5) for value in found]
