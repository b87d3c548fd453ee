"""Which models' replicas fail their start, and why, as /ready, /autoscaling and /metrics show it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from serve_app.config.names import deployment
from serve_app.replica import failed_starts

LOOK_S = 2.0

logger = logging.getLogger("ray.serve")


class Failing(Collector):
    """Looked up again and again beside the requests, so that no page waits for the cluster's store."""

    def __init__(self, app: str, models: Sequence[str], over: Callable[[str], bool] = lambda deployment: False) -> None:
        """`over` tells of a deployment whether it has all its replicas, so that what failed before does not count."""
        self._app = app
        self._models = models
        self._over = over
        self._known: dict[str, dict[str, Any]] = {}

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            try:
                known = await asyncio.to_thread(failed_starts.failing, self._app, self._models, time.time())
                self._known = {model: one for model, one in known.items() if not self._over(deployment(model))}
            except Exception as error:
                logger.warning("whether replicas fail their start is not known: %r", error)
            await asyncio.sleep(LOOK_S)

    def count(self, model: str) -> dict[str, int]:
        """`{"failed_starts": N}` in a row, for who has no key; empty where its replicas start."""
        return {"failed_starts": self._known[model]["count"]} if model in self._known else {}

    def of(self, model: str) -> dict[str, Any]:
        """`{"failed_starts": {reason, permanent, count, at}}` of a model; empty where its replicas start."""
        return {"failed_starts": self._known[model]} if model in self._known else {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """A sample for each model whose last start failed."""
        family = GaugeMetricFamily(
            "serve_app_failed_starts",
            "Starts of a model's replicas that failed in a row, by the last one's reason.",
            labels=("model", "permanent", "reason"),
        )
        for model, known in self._known.items():
            family.add_metric((model, str(known["permanent"]).lower(), known["reason"]), known["count"])
        yield family
