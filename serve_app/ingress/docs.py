"""/docs and /openapi.json: the API as the engines describe it themselves."""

from __future__ import annotations

import html
import json
from typing import Any

import aiohttp
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from serve_app.errors import ApiError
from serve_app.ingress.ask import ask
from serve_app.ingress.catalogue import Catalogue
from serve_app.model_routes import MODEL_ROUTES

OWN_ROUTES = {
    "/v1/models": "The models served here, with their context length, aliases and replicas.",
    "/v1/models/{id}": "One of them.",
    "/health": "This ingress process answers.",
    "/ready": "Each model and how many of its replicas are ready; 503 until every model has one.",
    "/ping": "/ready without a word, for SageMaker.",
    "/autoscaling": "What decides how many replicas each model has: what it sees, needs, decides and why.",
    "/v1/files": "Files of the Batch API, where the configuration switches it on; POST uploads one.",
    "/v1/batches": "Its batches; POST creates one.",
    "/load": "What each model's replicas hold, and how much of it is not batch work.",
    "/version": "Versions of this service and its engines.",
    "/metrics": "Prometheus metrics of this ingress and of every engine.",
}


class Docs:
    """Shows the routes and their request fields; works without the internet."""

    def __init__(self, catalogue: Catalogue, session: aiohttp.ClientSession) -> None:
        self._catalogue = catalogue
        self._session = session

    def routes(self) -> list[Route]:
        return [Route("/openapi.json", self._openapi), Route("/docs", self._page)]

    async def _openapi(self, request: Request) -> JSONResponse:
        return JSONResponse(await self._schema())

    async def _page(self, request: Request) -> HTMLResponse:
        try:
            schema = await self._schema()
        except ApiError:
            schema = {"paths": {}}
        return HTMLResponse(_render(schema, [one.config.id for one in self._catalogue.models]))

    async def _schema(self) -> dict[str, Any]:
        """A replica's OpenAPI schema, cut down to the routes clients reach and with this service's own added."""
        for served in self._catalogue.models:
            for replica in served.pool.replicas:
                if schema := await ask(self._session, replica.info, "/openapi.json"):
                    return self._cut(json.loads(schema))
        raise ApiError(503, "no engine is ready to describe the API yet", code="model_not_ready", retry_after_s=10)

    def _cut(self, schema: dict[str, Any]) -> dict[str, Any]:
        paths = {path: item for path, item in schema["paths"].items() if path in MODEL_ROUTES}
        own = {
            path: {"get": {"summary": text, "responses": {"200": {"description": "OK"}}}}
            for path, text in OWN_ROUTES.items()
        }
        info = {"title": "LFM2 on Ray Serve", "version": schema["info"]["version"]}
        return {**schema, "info": info, "paths": paths | own}


def _render(schema: dict[str, Any], models: list[str]) -> str:
    rows = [f"<h2>POST {path}</h2>{_fields(schema, path)}" for path in MODEL_ROUTES]
    rows += [f"<h2>GET {html.escape(path)}</h2><p>{html.escape(text)}</p>" for path, text in OWN_ROUTES.items()]
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
