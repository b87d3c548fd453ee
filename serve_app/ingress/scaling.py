"""GET /autoscaling: what decides how many replicas each model has, what it sees and why."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from serve_app.autoscaling import state
from serve_app.ingress.failing import Failing
from serve_app.planning.resolve import replica_bounds
from serve_app.routing.catalogue import Catalogue, Served


class Scaling:
    """Shows what the policies write down."""

    def __init__(self, catalogue: Catalogue, app: str, failing: Failing | None = None) -> None:
        """`failing` knows of failed starts."""
        self._catalogue = catalogue
        self._app = app
        self._failing = failing

    def routes(self) -> list[Route]:
        return [Route("/autoscaling", self._page)]

    async def _page(self, request: Request) -> JSONResponse:
        served = self._catalogue.models
        told = await asyncio.gather(*(self._describe(one) for one in served))
        return JSONResponse({"models": {one.config.id: each for one, each in zip(served, told, strict=True)}})

    async def _describe(self, served: Served) -> dict[str, Any]:
        return await self._decided(served) | (self._failing.of(served.config.id) if self._failing else {})

    async def _decided(self, served: Served) -> dict[str, Any]:
        low, high = replica_bounds(served.config)
        if served.config.autoscaling is None:
            replicas = {"ready": len(served.pool.replicas), "target": high}
            return {"autoscaling": False, "replicas": replicas, "reason": "this model has a fixed number of replicas"}
        known = await asyncio.to_thread(state.read, self._app, served.config.id)
        if known is None:
            known = {"bounds": {"min": low, "max": high}, "reason": "the policy has not decided anything yet"}
        return {"autoscaling": True, **known}
