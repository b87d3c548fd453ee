"""The ingress deployment: composes the ingress application and starts listening for replicas."""

from __future__ import annotations

import asyncio
import logging
import os

import aiohttp
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from serve_app.autoscaling import held
from serve_app.balancing import registry
from serve_app.balancing.pool import Limits, ReplicaPool
from serve_app.config import ServiceConfig
from serve_app.ingress.catalogue import Catalogue, Served
from serve_app.ingress.docs import Docs
from serve_app.ingress.forward import Forwarder
from serve_app.ingress.guard import Guard
from serve_app.ingress.metrics import Metrics
from serve_app.ingress.models import Models
from serve_app.ingress.routes import MODEL_ROUTES, IngressApp
from serve_app.ingress.scaling import Scaling
from serve_app.ingress.status import Status
from serve_app.ingress.upstream import Upstream

KEEP_ALIVE_S = 30
SLOW_PROXY = (
    "requests come through Ray Serve's Python proxy, which cannot carry many streams: "
    "start the cluster with RAY_SERVE_ENABLE_HA_PROXY=1"
)
CONNECT_TIMEOUT_S = 2.0

logger = logging.getLogger("ray.serve")


class IngressReplica:
    """What Ray Serve runs once per ingress process."""

    async def __init__(self, config: ServiceConfig, engines: dict[str, DeploymentHandle]) -> None:  # type: ignore[misc]
        self._config = config
        if os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") != "1":
            logger.warning(SLOW_PROXY)
        # `options` starts the handle's router, whose long poll tells this process of the replicas.
        self._handles = [handle.options(method_name="check_health") for handle in engines.values()]
        limits = Limits(config.ingress.max_waiting, config.ingress.wait_timeout_s, config.ingress.start_timeout_s)
        self._catalogue = Catalogue(
            Served(model, ReplicaPool(model.id, limits, affinity=model.affinity)) for model in config.models
        )
        for served in self._catalogue.models:
            registry.register(served.pool)
        self._reporting = asyncio.create_task(held.report("ingress", self._held))

    def _held(self) -> dict[str, int]:
        return {one.config.id: one.pool.waiting for one in self._catalogue.models if one.config.autoscaling}

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """Serve calls this once, on the loop that will serve."""
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S))
        metrics = Metrics()
        return IngressApp(
            self._catalogue,
            Forwarder(Upstream(CONNECT_TIMEOUT_S, KEEP_ALIVE_S)),
            Guard(self._config.ingress.api_keys),
            metrics,
            [
                Models(self._catalogue),
                Status(self._catalogue, metrics, session),
                Scaling(self._catalogue, serve.get_replica_context().app_name),
                Docs(self._catalogue, session, MODEL_ROUTES),
            ],
            int(self._config.ingress.max_body_mib * 2**20),
        )
