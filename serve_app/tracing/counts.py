"""What became of the spans of a process, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

Fate = Literal["sent", "dropped", "failed"]
"""`dropped` where too many were held already, `failed` where the collector did not take them."""


class SpanCounts(Collector):
    """Counts, and tells them as a family of its own."""

    def __init__(self, family: str) -> None:
        """`family` is its name, which no other part of the service has on the same page."""
        self._family = family
        self._counts: dict[Fate, int] = {"sent": 0, "dropped": 0, "failed": 0}

    def add(self, fate: Fate, spans: int = 1) -> None:
        self._counts[fate] += spans

    def __getitem__(self, fate: Fate) -> int:
        return self._counts[fate]

    def collect(self) -> Iterator[CounterMetricFamily]:
        """For prometheus_client."""
        family = CounterMetricFamily(
            self._family, "Spans of traces that were sent, dropped, or not taken by the collector.", labels=("fate",)
        )
        for fate, count in self._counts.items():
            family.add_metric((fate,), count)
        yield family
