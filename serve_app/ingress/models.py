"""/v1/models, answered from the configuration and the pool: the models and adapters that the key may use."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from serve_app.adapters.adapter import Adapter
from serve_app.ingress.authentication import owner_of
from serve_app.routing.catalogue import Catalogue, Served


class Models:
    """OpenAI's list of models, with context length, aliases and replicas added as vLLM adds fields of its own."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def routes(self) -> list[Route]:
        return [Route("/v1/models", self._list), Route("/v1/models/{id:path}", self._one)]

    async def _list(self, request: Request) -> JSONResponse:
        owner = owner_of(request.scope)
        found = self._catalogue.open_to(owner)
        data = [_describe(served, name) for served in found for name in served.config.names]
        usable = (one for one in self._catalogue.adapters(owner) if one.wrong is None)
        data += [_of_adapter(one.served, one.adapter) for one in usable if one.adapter]
        return JSONResponse({"object": "list", "data": data})

    async def _one(self, request: Request) -> JSONResponse:
        name = request.path_params["id"]
        found = self._catalogue.find(name, owner_of(request.scope))
        return JSONResponse(
            _describe(found.served, name) if found.adapter is None else _of_adapter(found.served, found.adapter)
        )


def _describe(served: Served, name: str) -> dict[str, Any]:
    config, replicas = served.config, served.pool.replicas
    described = {
        "id": name,
        "object": "model",
        "created": min((replica.info.created for replica in replicas), default=0),
        "owned_by": config.id.partition("/")[0] if "/" in config.id else "serve_app",
        "root": config.id,
        "parent": None if name == config.id else config.id,
        "max_model_len": max((replica.info.max_model_len for replica in replicas), default=None),
        "kind": config.kind,
        "aliases": list(config.aliases),
        "replicas": len(replicas),
    }
    if config.engine == "simulated":
        described["simulated"] = True
    return described


def _of_adapter(served: Served, adapter: Adapter) -> dict[str, Any]:
    """As vLLM describes one: where it is as its `root`, and the model it is of as its `parent`."""
    own = {"id": adapter.id, "root": adapter.source, "parent": served.config.id, "aliases": []}
    return {**_describe(served, served.config.id), **own}
