"""Asks every ingress process and every replica what it has counted, again and again, and keeps what came of it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

import aiohttp

from serve_app.autoscaling import state
from serve_app.compat import kv_store
from serve_app.console.exposed import Grown, Growth, Samples, read, waiting
from serve_app.console.history import History
from serve_app.replica.ask import ask
from serve_app.replica.place import PLACE
from serve_app.replica.protocol import ReplicaInfo
from serve_app.routing.pool import ReplicaPool

PERIOD_S = 2.0
MOST_SHARE = 0.1
"""Of one core, which the console takes at most: with more replicas the points lie further apart."""
AT_ONCE = 16
"""Processes that are asked at the same time."""
STORE_S = 2.0
"""For the key-value store to answer."""
INGRESS = "ingress/"

logger = logging.getLogger("ray.serve")


class Sampler:
    """Looks at an application's processes."""

    def __init__(self, app: str, pools: Sequence[ReplicaPool], session: aiohttp.ClientSession) -> None:
        self._app = app
        self._pools = {pool.model: pool for pool in pools}
        self._session = session
        self._growth = Growth()
        self._ask_at_once = asyncio.Semaphore(AT_ONCE)
        self._last = time.time()
        self.histories = {model: History() for model in self._pools}
        self.scaling: dict[str, dict[str, Any]] = {}
        """What each model's policy last said, its changes among it; empty of those that have none."""
        self.gpus: dict[str, list[int]] = {}
        """The GPUs that each replica has, by its id: numbers on its machine."""

    async def follow(self) -> None:
        """Until cancelled."""
        while True:
            began, busy = time.monotonic(), time.process_time()
            try:
                await self.look()
            except Exception:
                logger.exception("the console could not look at the service")
            took, worked = time.monotonic() - began, time.process_time() - busy
            await asyncio.sleep(max(PERIOD_S - took, worked / MOST_SHARE - took, 0))

    async def look(self) -> None:
        """Once."""
        ingresses = await self._ingresses()
        replicas = {one.id: one.info for pool in self._pools.values() for one in pool.replicas}
        asked = ingresses | replicas
        pages = await asyncio.gather(*(self._page(info) for info in asked.values()))
        samples = {id: page for id, page in zip(asked, pages, strict=True) if page is not None}
        at = time.time()
        over_s, self._last = max(at - self._last, 1e-3), at
        grown = self._growth.since(samples)
        self._growth.forget(asked)
        held = waiting(samples[id] for id in ingresses if id in samples)
        self.gpus = {
            id: self.gpus[id] if id in self.gpus else await self._gpus_of(info) for id, info in replicas.items()
        }
        self.scaling = await self._store(self._policies) or self.scaling
        for model, pool in self._pools.items():
            gauges = _gauges(pool, self.scaling.get(model), held.get(model, 0.0))
            self.histories[model].add(at, over_s, grown.get(model) or Grown(), gauges)

    async def _page(self, info: ReplicaInfo) -> Samples | None:
        async with self._ask_at_once:
            page = await ask(self._session, info, "/metrics")
        return None if page is None else read(page.decode())

    async def _gpus_of(self, info: ReplicaInfo) -> list[int]:
        """Asked once, as a replica stays where it is."""
        page = await ask(self._session, info, PLACE)
        place = json.loads(page) if page else {"gpus": (), "mine": ()}
        return [one["index"] for one in place["gpus"] if one["uuid"] in place["mine"]]

    async def _ingresses(self) -> dict[str, ReplicaInfo]:
        written = await self._store(kv_store.read_all, f"{INGRESS}{self._app}/") or {}
        return {key: ReplicaInfo.from_dict(fact) for key, fact in written.items()}

    def _policies(self) -> dict[str, dict[str, Any]]:
        found = {model: state.read(self._app, model) for model in self._pools}
        return {model: one for model, one in found.items() if one is not None}

    async def _store(self, use: Any, *args: Any) -> Any:
        """A call of the key-value store; None where it does not answer in time."""
        try:
            return await asyncio.wait_for(asyncio.to_thread(use, *args), STORE_S)
        except Exception as error:
            logger.warning("the console cannot read the cluster's store: %r", error)
            return None


def _gauges(pool: ReplicaPool, scaling: dict[str, Any] | None, held: float) -> dict[str, float]:
    replicas = pool.replicas
    awake = [one for one in replicas if not one.load.asleep]
    return {
        "running": sum(one.load.running for one in replicas),
        "queue": held + sum(one.load.waiting for one in replicas),
        "kv": _mean(one.load.kv_usage for one in awake),
        "ready": len(awake),
        "target": scaling["replicas"]["target"] if scaling and "replicas" in scaling else len(replicas),
    }


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0
