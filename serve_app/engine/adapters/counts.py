"""What an engine's adapters are asked for and cost, counted by adapter."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


class AdapterCounts(Collector):
    """Of one replica."""

    def __init__(self, model: str) -> None:
        """`model` is the id of the model that the adapters are of."""
        self._model = model
        self.open: dict[str, int] = {}
        """Requests that are for an adapter, those that wait for it to load among them; 0 is left out."""
        self.requests: Counter[str] = Counter()
        """So far."""
        self.loads: Counter[str] = Counter()
        """So far."""
        self.load_s: dict[str, float] = {}
        """What all loads of an adapter took, s."""

    @contextlib.contextmanager
    def request(self, id: str) -> Iterator[None]:
        """Counts a request that is for this adapter, while it is open."""
        self.requests[id] += 1
        self.open[id] = self.open.get(id, 0) + 1
        try:
            yield
        finally:
            self.open[id] -= 1
            if not self.open[id]:
                del self.open[id]

    def loaded(self, id: str, seconds: float) -> None:
        """An adapter has been loaded."""
        self.loads[id] += 1
        self.load_s[id] = self.load_s.get(id, 0.0) + seconds

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client."""
        labels = ("model", "adapter")
        families = (
            (GaugeMetricFamily, "serve_app_adapter_requests_open", "Requests open for an adapter.", self.open),
            (CounterMetricFamily, "serve_app_adapter_requests", "Requests that were for an adapter.", self.requests),
            (CounterMetricFamily, "serve_app_adapter_loads", "Times an adapter was loaded.", self.loads),
            (CounterMetricFamily, "serve_app_adapter_load_seconds", "What loading adapters took.", self.load_s),
        )
        for kind, name, text, values in families:
            family = kind(name, text, labels=labels)
            for id, value in sorted(values.items()):
                family.add_metric((self._model, id), value)
            yield family
