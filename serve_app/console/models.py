"""GET /console/api/models: what the playground has to know of each model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from serve_app.config.schema import ModelConfig
from serve_app.routing.pool import ReplicaPool


class ModelsPage:
    """Names, kinds, sampling defaults and how many replicas are ready."""

    def __init__(self, models: Sequence[ModelConfig], pools: Sequence[ReplicaPool]) -> None:
        self._served = list(zip(models, pools, strict=True))

    def routes(self) -> list[Route]:
        return [Route("/console/api/models", self._page)]

    async def _page(self, request: Request) -> JSONResponse:
        return JSONResponse({"models": [_described(model, pool) for model, pool in self._served]})


def _described(model: ModelConfig, pool: ReplicaPool) -> dict[str, Any]:
    return {
        "id": model.id,
        "aliases": list(model.aliases),
        "kind": model.kind,
        "simulated": model.engine == "simulated",
        "sampling": model.sampling.model_dump(exclude_none=True),
        "tools": model.tool_parser is not None,
        "images": model.images_per_prompt if model.kind == "vision" else 0,
        "max_model_len": max((replica.info.max_model_len for replica in pool.replicas), default=None),
        "ready": len(pool.replicas),
    }
