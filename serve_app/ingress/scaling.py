"""GET /autoscaling: what decides how many replicas each model has, what it sees and why."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from serve_app.autoscaling import state
from serve_app.ingress.failing import Failing
from serve_app.planning.resolve import replica_bounds
from serve_app.routing.catalogue import Catalogue, Served
from serve_app.routing.replica import Replica


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
        found = await self._decided(served) | (self._failing.of(served.config.id) if self._failing else {})
        return found if served.config.adapters is None else found | {"adapters": adapters(served.pool.replicas)}

    async def _decided(self, served: Served) -> dict[str, Any]:
        low, high = replica_bounds(served.config)
        if served.config.autoscaling is None:
            replicas = {"ready": len(served.pool.replicas), "target": high}
            return {"autoscaling": False, "replicas": replicas, "reason": "this model has a fixed number of replicas"}
        known = await asyncio.to_thread(state.read, self._app, served.config.id)
        if known is None:
            known = {"bounds": {"min": low, "max": high}, "reason": "the policy has not decided anything yet"}
        return {"autoscaling": True, **known}


def adapters(replicas: Iterable[Replica]) -> dict[str, dict[str, int]]:
    """By adapter, how many replicas have it loaded and how many requests are open for it, as they last reported; of
    those that are loaded anywhere or asked for, the most asked for first."""
    found: dict[str, dict[str, int]] = {}
    for load in (one.load for one in replicas):
        for id in (*load.adapters, *load.adapter_requests):
            found.setdefault(id, {"replicas": 0, "requests": 0})
        for id in load.adapters:
            found[id]["replicas"] += 1
        for id, count in load.adapter_requests.items():
            found[id]["requests"] += count
    return dict(sorted(found.items(), key=lambda one: (-one[1]["requests"], -one[1]["replicas"], one[0])))
