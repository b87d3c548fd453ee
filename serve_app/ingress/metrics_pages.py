"""What Prometheus is told: /metrics for the whole service, and each replica by itself for who wants them one by one.

A replica answers only who carries its token, and that leaves the service for nobody. So a replica that is scraped by
itself is scraped through the ingress: /metrics/targets lists, as Prometheus' HTTP service discovery asks for it, the
ingress's own address with a path for each replica.
"""

from __future__ import annotations

import asyncio
from urllib.parse import quote, urlsplit

import aiohttp
from prometheus_client import CollectorRegistry, Gauge
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from serve_app.http.errors import ApiError
from serve_app.ingress.processes import IngressProcesses
from serve_app.ingress.scrapes import Part, Scrapes
from serve_app.replica.admission import METRICS, METRICS_PART
from serve_app.replica.ask import ask
from serve_app.replica.exposition import CONTENT_TYPE, join, own
from serve_app.routing.catalogue import Catalogue
from serve_app.routing.metrics import Metrics, PoolCounts
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.replica import Replica

TARGETS, INGRESS, REPLICAS = "/metrics/targets", "/metrics/ingress", "/metrics/replicas"


class MetricsPages:
    """Of the ingress and all that it knows replicas of."""

    def __init__(
        self,
        catalogue: Catalogue,
        metrics: Metrics,
        session: aiohttp.ClientSession,
        batches: ReplicaPool | None = None,
        processes: IngressProcesses | None = None,
    ) -> None:
        """`processes` are the ingress's other processes, where there may be any."""
        self._pools = [one.pool for one in catalogue.models] + ([batches] if batches else [])
        self._registry = metrics.registry
        self._session = session
        self._processes = processes
        self._scrapes = Scrapes(session, f"{METRICS_PART}?replica=")
        self._registry.register(PoolCounts([one.pool for one in catalogue.models]))

    def routes(self) -> list[Route]:
        return [
            Route(METRICS, self._all),
            Route(TARGETS, self._targets),
            Route(INGRESS, self._ingress),
            Route(REPLICAS + "/{id}", self._replica),
        ]

    async def _all(self, request: Request) -> PlainTextResponse:
        replicas = {replica.id: replica for pool in self._pools for replica in pool.replicas}
        servers = {id: replica.info for id, replica in replicas.items()}
        parts, ours = await asyncio.gather(self._scrapes.collect(servers), self._ours())
        page = ours + _up(replicas, parts) + join(one.text for one in parts.values() if one)
        return PlainTextResponse(page, media_type=CONTENT_TYPE)

    async def _ingress(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse(await self._ours(), media_type=CONTENT_TYPE)

    async def _ours(self) -> bytes:
        return await self._processes.page() if self._processes else own(self._registry).encode()

    async def _replica(self, request: Request) -> PlainTextResponse:
        """One replica's own page, of its process too, without a label that names it. Raises ApiError."""
        id = request.path_params["id"]
        found = next((one for pool in self._pools for one in pool.replicas if one.id == id), None)
        if found is None:
            raise ApiError(404, f"there is no replica {id[:100]!r}; {TARGETS} lists those there are", code="no_replica")
        page = await ask(self._session, found.info, METRICS)
        if page is None:
            raise ApiError(503, f"the replica {id!r} does not answer", code="replica_dead")
        return PlainTextResponse(page, media_type=CONTENT_TYPE)

    async def _targets(self, request: Request) -> JSONResponse:
        """A target is this service as the client has addressed it; the labels say whom its path leads to."""
        host, root = request.url.netloc, request.scope.get("root_path", "")
        paths: list[tuple[str, dict[str, str]]] = [(INGRESS, {})]
        paths += [
            (
                f"{REPLICAS}/{quote(replica.id)}",
                {"model": pool.model, "replica": replica.id, "node": urlsplit(replica.info.url).hostname or ""},
            )
            for pool in self._pools
            for replica in pool.replicas
        ]
        return JSONResponse(
            [{"targets": [host], "labels": {"__metrics_path__": root + path, **labels}} for path, labels in paths]
        )


def _up(replicas: dict[str, Replica], parts: dict[str, Part | None]) -> bytes:
    registry = CollectorRegistry()
    up = Gauge(
        "serve_app_replica_up",
        "Whether a replica answered this scrape; what it counts is old or missing where not.",
        ("model", "replica", "node"),
        registry=registry,
    )
    for id, part in parts.items():
        info = replicas[id].info
        up.labels(info.model, id, urlsplit(info.url).hostname).set(part is not None and part.fresh)
    return own(registry).encode()
