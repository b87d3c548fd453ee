"""How many replicas each model is to have, and when those that are missing should serve, as /metrics shows it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from serve_app.autoscaling import state
from serve_app.config.schema import ModelConfig
from serve_app.planning.resolve import replica_bounds

LOOK_S = 2.0

logger = logging.getLogger("ray.serve")


class Wanted(Collector):
    """Looked up again and again beside the requests, so that no page waits for the cluster's store.

    A model without autoscaling has its fixed number.
    """

    def __init__(self, app: str, models: Sequence[ModelConfig]) -> None:
        self._app = app
        self._scaled = [one.id for one in models if one.autoscaling]
        self._known: dict[str, dict[str, Any]] = {one.id: {"target": replica_bounds(one)[0]} for one in models}

    async def watch(self) -> None:
        """Until cancelled."""
        while self._scaled:
            try:
                self._known |= await asyncio.to_thread(self._look)
            except Exception as error:
                logger.warning("how many replicas are wanted is not known: %r", error)
            await asyncio.sleep(LOOK_S)

    def _look(self) -> dict[str, dict[str, Any]]:
        told = {model: state.replicas(self._app, model) for model in self._scaled}
        return {model: one for model, one in told.items() if one is not None}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The second family has a sample of each model that waits for replicas whose time of starting is known."""
        wanted = GaugeMetricFamily(
            "serve_app_replicas_wanted", "Replicas a model is to have, those asleep included.", labels=("model",)
        )
        ready_in = GaugeMetricFamily(
            "serve_app_replicas_ready_in_seconds",
            "When replicas that were ordered should serve, as long as starts take; 0 once they are late.",
            labels=("model",),
        )
        for model, one in self._known.items():
            wanted.add_metric((model,), one["target"])
            if one.get("ready_in_s") is not None:
                ready_in.add_metric((model,), one["ready_in_s"])
        yield from (wanted, ready_in)
