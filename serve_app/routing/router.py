"""The data plane of one process: reads a request, finds its model, and lets one of the model's replicas answer it.

The ingress, the batch deployment and offline runs each have a `Router`, and differ only in what they pass to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from ray.serve.handle import DeploymentHandle
from starlette.types import Receive, Scope, Send

from serve_app.adapters.adapter import Adapter
from serve_app.config.keys import UNNAMED, KeyConfig
from serve_app.config.schema import ModelConfig
from serve_app.http.errors import ApiError
from serve_app.replica.protocol import ADAPTER_HEADER
from serve_app.routing import registry, sequences
from serve_app.routing.adapters import AdapterWatch
from serve_app.routing.body import RequestBody
from serve_app.routing.catalogue import Catalogue, Served
from serve_app.routing.claim import Claim
from serve_app.routing.forward import Forwarder
from serve_app.routing.head import read_head
from serve_app.routing.headers import for_replica, is_batch
from serve_app.routing.metrics import Metrics, ObservedRequest
from serve_app.routing.pickers import PICKERS
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits, WaitingQueue
from serve_app.routing.request import RoutedRequest
from serve_app.routing.traced import Tracer
from serve_app.routing.upstream import Upstream

CONNECT_TIMEOUT_S = 2.0
KEEP_ALIVE_S = 30.0
"""How long a connection to a replica is kept for another request; below the replica server's own keep-alive."""


class Router:
    """Routes requests to the replicas of the served models, over connections of its own."""

    def __init__(self, catalogue: Catalogue, metrics: Metrics | None = None, continue_bytes: int = 0) -> None:
        """`continue_bytes` are kept at most of each open stream, to go on with it if its replica is lost."""
        self.catalogue = catalogue
        self.metrics = metrics or Metrics()
        for one in catalogue.models:
            self.metrics.of_model(one.config.id)
        upstream = Upstream(CONNECT_TIMEOUT_S, KEEP_ALIVE_S)
        upstream.silence.on_frozen = self._frozen
        self._forward = Forwarder(upstream, continue_bytes)
        self.on_frozen: Callable[[str, str], None] = lambda model, replica: None
        """Told the model and the id of each replica from which nothing comes any more."""
        self.tracer: Tracer | None = None
        """Says which requests are traced; none are without it."""
        self._handles: list[DeploymentHandle] = []
        self.adapters = AdapterWatch(catalogue)
        self._following: asyncio.Task[None] | None = None

    @classmethod
    def of_deployments(
        cls,
        models: Iterable[ModelConfig],
        handles: Mapping[str, DeploymentHandle],
        limits: QueueLimits,
        continue_bytes: int = 0,
    ) -> Router:
        """A router whose pools Ray Serve keeps up to date; `handles` are the models' deployments by id.

        It follows the directories of adapters on the running event loop.
        """
        served = [Served(model, ReplicaPool(model.id, limits, PICKERS[model.routing_policy]())) for model in models]
        router = cls(Catalogue(served), continue_bytes=continue_bytes)
        router._following = asyncio.create_task(router.adapters.follow())
        router._handles = [registry.listen(handles[one.config.id], one.pool) for one in served]
        return router

    def route(
        self, scope: Scope, body: RequestBody, owner: KeyConfig = UNNAMED, *, batch: bool = False
    ) -> RoutedRequest:
        """Read a request of this key's. Raises ApiError where it cannot be routed. `batch` marks it as batch work."""
        head = read_head(scope, body.data)
        target = self.catalogue.target(head.model, owner)
        pool, path = target.served.pool, scope["path"]
        count = sequences.bounded(head, body.data, target.served.config.most_sequences, path)
        key = pool.picker.key(scope, head)
        headers = for_replica(scope["headers"], head, owner, batch=batch)
        adapter = target.adapter
        if adapter is not None:
            headers.append((ADAPTER_HEADER, _usable(adapter)))
        low = is_batch(headers)
        tokens = pool.shares.expected(owner.client, len(body.data), count, batch=low)
        claim = Claim(count, key, low, None if adapter is None else adapter.id, owner.client, owner.weight, tokens)
        return RoutedRequest({**scope, "headers": headers}, body, pool, claim, owner)

    async def routed(
        self, scope: Scope, body: RequestBody, owner: KeyConfig = UNNAMED, *, batch: bool = False
    ) -> RoutedRequest:
        """As `route`, for which an adapter counts too that came a moment ago, whoever loaded it."""
        try:
            return self.route(scope, body, owner, batch=batch)
        except ApiError as error:
            if error.code != "model_not_found" or not await self.adapters.look_again():
                raise
            return self.route(scope, body, owner, batch=batch)

    async def answer(self, request: RoutedRequest, send: Send, receive: Receive | None = None) -> None:
        """Let a replica answer the request; `receive` tells when its client has gone, None if it never goes.

        Raises ApiError while nothing has been sent, ConnectionError where the response cannot be completed,
        ClientGone when nobody listens.
        """
        trace = self.tracer.begin(request) if self.tracer is not None else None
        model, path, key = request.pool.model, request.scope["path"], request.owner.name
        with ObservedRequest(self.metrics, model, path, key, trace) as seen:
            try:
                await self._forward(request, receive, send, seen)
            except ApiError as error:
                seen.failed(error.status)
                raise

    def _frozen(self, url: str) -> None:
        for served in self.catalogue.models:
            for replica in served.pool.replicas:
                if replica.info.url == url:
                    served.pool.eject(replica)
                    self.metrics.frozen.labels(served.config.id).inc()
                    self.on_frozen(served.config.id, replica.id)

    def waiting(self) -> dict[str, int]:
        """Sequences this process holds for want of a replica, by id of the models that scale."""
        return {model: queue.waiting for model, queue in self._scaled()}

    def refused(self) -> dict[str, int]:
        """Sequences this process has sent away for want of a replica so far, by id of the models that scale."""
        return {model: queue.refused.total() for model, queue in self._scaled()}

    def _scaled(self) -> list[tuple[str, WaitingQueue]]:
        return [(one.config.id, one.pool.queue) for one in self.catalogue.models if one.config.autoscaling]


def _usable(adapter: Adapter) -> bytes:
    """The adapter as a header; raises ApiError 400 for one that no engine can use."""
    if adapter.wrong is not None:
        message = f"the adapter {adapter.id!r} cannot be used: {adapter.wrong}"
        raise ApiError(400, message, "model", "adapter_unusable")
    return bytes(adapter)
