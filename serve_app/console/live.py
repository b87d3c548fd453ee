"""GET /console/api/live: each model's last 15 minutes, its replicas, and what its policy decided and why."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from serve_app.config.schema import ModelConfig
from serve_app.console.sampler import Sampler
from serve_app.http.errors import ApiError
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.replica import Replica


class LivePage:
    """Shows what a sampler keeps."""

    def __init__(self, models: Sequence[ModelConfig], pools: Sequence[ReplicaPool], sampler: Sampler) -> None:
        self._served = list(zip(models, pools, strict=True))
        self._sampler = sampler

    def routes(self) -> list[Route]:
        return [Route("/console/api/live", self._page)]

    async def _page(self, request: Request) -> JSONResponse:
        """Points after `since`, seconds since the epoch; all of them unless given."""
        text = request.query_params.get("since", "0")
        try:
            since = float(text)
        except ValueError:
            message = f"since is {text[:100]!r}: send seconds since the epoch"
            raise ApiError(400, message, "since", "invalid_value") from None
        models = {model.id: self._told(model, pool, since) for model, pool in self._served}
        return JSONResponse({"now": round(time.time(), 3), "models": models})

    def _told(self, model: ModelConfig, pool: ReplicaPool, since: float) -> dict[str, Any]:
        scaling = self._sampler.scaling.get(model.id, {})
        replicas = [_replica(one, self._sampler.gpus.get(one.id, [])) for one in pool.replicas]
        starting = scaling.get("replicas", {}).get("starting", 0)
        return {
            "points": self._sampler.histories[model.id].since(since),
            "replicas": replicas + [{"state": "starting"}] * starting,
            "autoscaled": model.autoscaling is not None,
            "reason": scaling.get("reason"),
            "bounds": scaling.get("bounds"),
            "ready_in_s": scaling.get("replicas", {}).get("ready_in_s"),
            "changes": [one for one in scaling.get("changes", []) if one["at"] > since],
        }


def _replica(one: Replica, gpus: list[int]) -> dict[str, Any]:
    load = one.load
    return {
        "id": one.id,
        "state": "draining" if load.draining else "standby" if load.asleep else "ready",
        "node": one.info.url.partition("://")[2].rpartition(":")[0].strip("[]"),
        "gpus": gpus,
        "since": one.info.created,
        "running": load.running,
        "waiting": load.waiting,
        "most": one.info.max_running,
        "kv": round(load.kv_usage, 4),
    }
