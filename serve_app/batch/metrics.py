"""What the batch deployment tells Prometheus; the ingress's /metrics passes it on."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from serve_app.batch.api.objects import STATUSES
from serve_app.batch.api.store import Store


class BatchMetrics:
    """Lines and batches."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.registry = CollectorRegistry()
        self.lines = Counter(
            "serve_app_batch_lines", "Lines of batches worked off.", ("outcome",), registry=self.registry
        )
        self._batches = Gauge("serve_app_batches", "Batches there are.", ("status",), registry=self.registry)

    def routes(self) -> list[Route]:
        return [Route("/metrics", self._page)]

    async def _page(self, request: Request) -> PlainTextResponse:
        counts = await self._store.counts()
        for status in STATUSES:
            self._batches.labels(status).set(counts.get(status, 0))
        return PlainTextResponse(generate_latest(self.registry))
