"""The engines as one process sees them: a pool for each model, kept up to date by Ray Serve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ray.serve.handle import DeploymentHandle

from serve_app.config.schema import ModelConfig
from serve_app.routing import registry
from serve_app.routing.catalogue import Catalogue, Served
from serve_app.routing.pool import QueueLimits, ReplicaPool


def listen(handle: DeploymentHandle, pool: ReplicaPool) -> DeploymentHandle:
    """Let Serve tell the pool of a deployment's replicas, as long as the handle returned is kept."""
    registry.register(pool)
    # `options` starts the handle's router, whose long poll tells this process of the replicas.
    return handle.options(method_name="check_health")


class Engines:
    """Every model's pool."""

    def __init__(
        self, models: Iterable[ModelConfig], handles: Mapping[str, DeploymentHandle], limits: QueueLimits
    ) -> None:
        self.catalogue = Catalogue(
            Served(model, ReplicaPool(model.id, limits, affinity=model.affinity)) for model in models
        )
        self._handles = [listen(handles[one.config.id], one.pool) for one in self.catalogue.models]

    def waiting(self) -> dict[str, int]:
        """Sequences this process holds for want of a replica, by id of the models that scale."""
        return {one.config.id: one.pool.waiting for one in self.catalogue.models if one.config.autoscaling}
