"""How this process learns of a model's replicas: through Ray Serve's request-router hook.

Serve calls `update_replicas` by long poll in each process that holds a handle to the deployment, whether or not
a request is ever routed through it. Ours are not.
"""

from __future__ import annotations

from ray.serve.config import RequestRouterConfig
from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from serve_app.replica.protocol import REPORT_PERIOD_S


class Listener(RequestRouter):
    """Publishes the running replicas of its deployment to this process's registry."""

    def initialize_state(self, model: str) -> None:
        self._model = model

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        # Serve pickles this class's module by value: a registry imported at the top would be a copy.
        from serve_app.routing import registry

        super().update_replicas(replicas)
        registry.publish(self._model, [(r.replica_id.unique_id, r.replica_metadata, r.routing_stats) for r in replicas])

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Any will do for a call through the handle."""
        return [candidate_replicas]


def listened_to(pool: str) -> RequestRouterConfig:
    """A deployment's `request_router_config`, by which its replicas are made known to the pool of this name in each
    process that holds a handle to the deployment."""
    return RequestRouterConfig(
        request_router_class="serve_app.routing.discovery:Listener",
        request_router_kwargs={"model": pool},
        request_routing_stats_period_s=REPORT_PERIOD_S,
    )
