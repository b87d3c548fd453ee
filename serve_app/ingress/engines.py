"""The engines as one process sees them: a pool for each model, kept up to date by Ray Serve."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from functools import partial

from ray.serve.handle import DeploymentHandle

from serve_app.balancing import registry
from serve_app.balancing.pool import Limits, ReplicaPool
from serve_app.config import ModelConfig
from serve_app.ingress.catalogue import Catalogue, Served

logger = logging.getLogger("ray.serve")


def listen(handle: DeploymentHandle, pool: ReplicaPool) -> DeploymentHandle:
    """Let Serve tell the pool of a deployment's replicas, as long as the handle returned is kept."""
    registry.register(pool)
    # `options` starts the handle's router, whose long poll tells this process of the replicas.
    return handle.options(method_name="check_health")


class Engines:
    """Every model's pool, and the way to wake a model scaled to zero."""

    def __init__(self, models: Iterable[ModelConfig], handles: Mapping[str, DeploymentHandle], limits: Limits) -> None:
        self._waking: dict[str, asyncio.Task[None]] = {}
        self.catalogue = Catalogue(
            Served(model, ReplicaPool(model.id, limits, wake=partial(self._wake, model.id), affinity=model.affinity))
            for model in models
        )
        self._handles = {one.config.id: listen(handles[one.config.id], one.pool) for one in self.catalogue.models}

    def _wake(self, model: str) -> None:
        """Let Serve see a request for a model it has scaled to zero, once until it is up."""
        if model not in self._waking:
            self._waking[model] = asyncio.ensure_future(self._call(model))

    async def _call(self, model: str) -> None:
        try:
            await self._handles[model].remote()
        except Exception as error:
            logger.warning("%s did not wake up: %s", model, error)
        finally:
            del self._waking[model]
