"""/docs and /openapi.json: the API as the engines describe it themselves."""

from __future__ import annotations

import html
import json
from typing import Any

import aiohttp
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from serve_app.http.errors import ApiError
from serve_app.http.model_routes import MODEL_ROUTES
from serve_app.ingress.openapi import document
from serve_app.replica.ask import ask
from serve_app.routing.catalogue import Catalogue


class Docs:
    """Shows the routes and their request fields; works without the internet."""

    def __init__(
        self, catalogue: Catalogue, session: aiohttp.ClientSession, *, batches: bool = False, keys: bool = False
    ) -> None:
        """`batches` says whether the service has the Batch API, `keys` whether it asks for API keys."""
        self._catalogue = catalogue
        self._session = session
        self._batches, self._keys = batches, keys
        self._described: dict[str, dict[str, Any]] = {}
        """What a replica of each model said, by the model's id."""

    def routes(self) -> list[Route]:
        return [Route("/openapi.json", self._openapi), Route("/docs", self._page)]

    async def _openapi(self, request: Request) -> JSONResponse:
        await self._ask()
        describe = [one for one in self._catalogue.models if one.config.engine != "simulated"]
        if describe and not self._described:
            raise ApiError(503, "no engine is ready to describe the API yet", code="model_not_ready", retry_after_s=10)
        return JSONResponse(self._document())

    async def _page(self, request: Request) -> HTMLResponse:
        await self._ask()
        return HTMLResponse(_render(self._document(), [one.config.id for one in self._catalogue.models]))

    def _document(self) -> dict[str, Any]:
        names = [name for one in self._catalogue.models for name in one.config.names]
        names += [one.adapter.id for one in self._catalogue.adapters() if one.adapter and one.wrong is None]
        return document(list(self._described.values()), names, batches=self._batches, keys=self._keys)

    async def _ask(self) -> None:
        """Learn of each model's routes from one of its replicas, once."""
        for served in self._catalogue.models:
            if served.config.id in self._described:
                continue
            for replica in served.pool.replicas:
                if schema := await ask(self._session, replica.info, "/openapi.json"):
                    self._described[served.config.id] = json.loads(schema)
                    break


def _render(schema: dict[str, Any], models: list[str]) -> str:
    rows = [f"<h2>POST {path}</h2>{_fields(schema, path)}" for path in MODEL_ROUTES]
    own = {path: item for path, item in schema["paths"].items() if path not in MODEL_ROUTES}
    rows += [
        f"<h2>{method.upper()} {html.escape(path)}</h2><p>{html.escape(one['summary'])}</p>"
        for path, item in own.items()
        for method, one in item.items()
    ]
    names = ", ".join(f"<code>{html.escape(name)}</code>" for name in models)
    return (
        "<!doctype html><meta charset=utf-8><title>LFM2 on Ray Serve</title>"
        "<style>body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "td{padding:.1rem 1rem .1rem 0;vertical-align:top}code{font-size:.95em}</style>"
        f"<h1>LFM2 on Ray Serve</h1><p>An OpenAI-compatible API. Models: {names}. "
        'The full schema is at <a href="openapi.json">/openapi.json</a>.</p>' + "".join(rows)
    )


def _fields(schema: dict[str, Any], path: str) -> str:
    try:
        body = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    except KeyError:
        return "<p>Shown once an engine that has it is ready.</p>"
    cells = []
    for variant in body.get("anyOf", [body]):
        described = _follow(schema, variant)
        required = described.get("required", [])
        for name, field in described.get("properties", {}).items():
            note = field.get("description", "")
            mark = " <b>required</b>" if name in required else ""
            cells.append(
                f"<tr><td><code>{html.escape(name)}</code>{mark}<td>{html.escape(_kind(field))}<td>{html.escape(note)}"
            )
    return f"<table>{''.join(dict.fromkeys(cells))}</table>"


def _follow(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    name = part.get("$ref", "").rpartition("/")[2]
    return schema["components"]["schemas"].get(name, {}) if name else part


def _kind(field: dict[str, Any]) -> str:
    variants = field.get("anyOf", [field])
    kinds = [one.get("type") or one.get("$ref", "").rpartition("/")[2] for one in variants]
    return " or ".join(dict.fromkeys(kind for kind in kinds if kind and kind != "null"))
