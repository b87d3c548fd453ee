"""GET /console/api/gpus: the machines, their GPUs, and which replicas share which."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import aiohttp
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from serve_app.replica.ask import ask
from serve_app.replica.place import PLACE
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.replica import Replica

KEPT_S = 3.0
"""However many people look, each replica is asked once in so long."""
AT_ONCE = 16


class GpusPage:
    """Asks each replica where it is."""

    def __init__(self, pools: Sequence[ReplicaPool], session: aiohttp.ClientSession) -> None:
        self._pools = pools
        self._session = session
        self._told: dict[str, Any] = {}
        self._told_at = float("-inf")
        self._asking = asyncio.Lock()
        self._at_once = asyncio.Semaphore(AT_ONCE)

    def routes(self) -> list[Route]:
        return [Route("/console/api/gpus", self._page)]

    async def _page(self, request: Request) -> JSONResponse:
        async with self._asking:
            if time.monotonic() - self._told_at > KEPT_S:
                replicas = [(pool.model, one) for pool in self._pools for one in pool.replicas]
                places = await asyncio.gather(*(self._place(one) for _, one in replicas))
                self._told = {"nodes": by_node(list(zip(replicas, places, strict=True)))}
                self._told_at = time.monotonic()
        return JSONResponse(self._told)

    async def _place(self, replica: Replica) -> dict[str, Any] | None:
        async with self._at_once:
            page = await ask(self._session, replica.info, PLACE)
        return None if page is None else json.loads(page)


def by_node(found: Sequence[tuple[tuple[str, Replica], dict[str, Any] | None]]) -> list[dict[str, Any]]:
    """Each machine with its GPUs and, on each, the replicas that have it; `cpu` are those that have none.

    `found` has each model's replicas, and where each said it is: None where it did not answer.
    """
    nodes: dict[str, dict[str, Any]] = {}
    for (model, replica), place in found:
        address = replica.info.url.partition("://")[2].rpartition(":")[0].strip("[]")
        host = place["host"] if place else address
        node = nodes.setdefault(address, {"host": host, "address": address, "gpus": {}, "cpu": [], "problem": None})
        if place is None:
            node["cpu"].append({"model": model, "id": replica.id, "planned": {}})
            node["problem"] = node["problem"] or "a replica does not say where it is"
            continue
        node["host"], node["problem"] = host, place["problem"] or node["problem"]
        for gpu in place["gpus"]:
            # What was asked last is kept: memory in use changes between two answers.
            node["gpus"].setdefault(gpu["uuid"], {"replicas": []}).update(gpu)
        told = {"model": model, "id": replica.id, "asleep": replica.load.asleep, "planned": place["planned"]}
        for uuid in place["mine"]:
            node["gpus"][uuid]["replicas"].append(told)
        if not place["mine"]:
            node["cpu"].append(told)
    for node in nodes.values():
        node["gpus"] = sorted(node["gpus"].values(), key=lambda gpu: gpu["index"])
    return sorted(nodes.values(), key=lambda node: node["address"])
