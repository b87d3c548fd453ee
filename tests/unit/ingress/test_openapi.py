"""The description of the service: complete, and what is answered, shown on the ingress's own routes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.accounts.limiter import Limiter
from serve_app.accounts.usage import UsageBook
from serve_app.config.schema import ModelConfig
from serve_app.engine.simulation import SimulatedEngine
from serve_app.ingress.adapters import AdapterPages
from serve_app.ingress.authentication import Authentication
from serve_app.ingress.batches import BatchApi
from serve_app.ingress.body import BodyReader
from serve_app.ingress.docs import Docs
from serve_app.ingress.keyring import Keyring
from serve_app.ingress.metrics_pages import MetricsPages
from serve_app.ingress.models import Models
from serve_app.ingress.openapi import document
from serve_app.ingress.own_routes import BATCH_PATHS, PATHS
from serve_app.ingress.routes import IngressApp
from serve_app.ingress.status import Status
from serve_app.ingress.unoffered import Unoffered
from serve_app.ingress.usage import UsagePage
from serve_app.replica.server import ReplicaServer
from serve_app.routing.catalogue import Catalogue, Served
from serve_app.routing.metrics import Metrics
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from serve_app.routing.router import Router
from tests.support.replicas import published
from tests.support.schema import check, operations

BODY = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Ask"}}}}
ANSWERS = {"200": {"description": "", "content": {"application/json": {"schema": {}}}}, "422": {}, "500": {}}
DESCRIBED: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "vLLM", "version": "0.32.0"},
    "paths": {
        "/v1/completions": {"post": {"summary": "Complete", "requestBody": BODY, "responses": ANSWERS}},
        "/v1/messages": {"post": {"summary": "Messages", "requestBody": BODY, "responses": ANSWERS}},
        "/invocations": {"post": {"summary": "Any", "responses": ANSWERS}},
        "/pause": {"post": {"summary": "Not for clients", "responses": {}}},
    },
    "components": {
        "schemas": {
            "Ask": {"type": "object", "properties": {"prompt": {"$ref": "#/components/schemas/Prompt"}}},
            "Prompt": {"type": "string"},
            "HTTPValidationError": {"type": "object"},
        }
    },
}


def test_routes_of_replicas_have_this_services_answers() -> None:
    found = document([DESCRIBED], ["m"], batches=False, keys=False)
    assert "/pause" not in found["paths"] and "/v1/files" not in found["paths"]
    assert found["components"]["schemas"].keys() == {"Ask", "Prompt", "ErrorAnswer", "AnthropicErrorAnswer"}
    complete, messages = (found["paths"][path]["post"] for path in ("/v1/completions", "/v1/messages"))
    assert complete["requestBody"] == BODY and "`model` is one of m." in complete["description"]
    assert complete["responses"].keys() >= {"200", "400", "404", "413", "429", "503"}
    assert "422" not in complete["responses"] and "401" not in complete["responses"]
    assert complete["responses"]["200"]["content"].keys() == {"application/json", "text/event-stream"}
    for operation, schema in ((complete, "ErrorAnswer"), (messages, "AnthropicErrorAnswer")):
        assert operation["responses"]["400"]["content"]["application/json"]["schema"]["$ref"].endswith(f"/{schema}")


def test_keys_are_a_security_scheme_of_all_but_probes() -> None:
    found = document([DESCRIBED], ["m"], batches=True, keys=True)
    assert found["security"] == [{"bearer": []}, {"x-api-key": []}]
    assert found["security"][0].keys() <= found["components"]["securitySchemes"].keys()
    for path, item in found["paths"].items():
        for operation in item.values():
            probe = path in ("/health", "/ready", "/ping")
            assert (operation.get("security") == []) is probe and ("401" in operation["responses"]) is not probe, path


def test_models_of_several_kinds_are_described_together() -> None:
    embeds = {**DESCRIBED, "paths": {"/v1/embeddings": DESCRIBED["paths"]["/v1/completions"]}}
    found = document([DESCRIBED, embeds], ["m", "e"], batches=False, keys=False)["paths"]
    assert {"/v1/completions", "/v1/embeddings"} <= found.keys()
    assert found["/v1/embeddings"]["post"]["responses"]["200"]["content"].keys() == {"application/json"}


def test_every_route_of_the_ingress_is_described() -> None:
    catalogue, session = Catalogue([]), None
    metrics = MetricsPages(catalogue, Metrics(), session)  # type: ignore[arg-type]
    docs = Docs(catalogue, session)  # type: ignore[arg-type]
    adapters = AdapterPages(catalogue, None, session)  # type: ignore[arg-type]
    pages = [Models(catalogue), adapters, Status(catalogue), metrics, docs, UsagePage(None)]
    paths = {route.path.replace(":path", "") for page in pages for route in page.routes()}
    assert paths | {"/autoscaling"} == PATHS.keys()
    passed_on = {route.path.removesuffix("/{rest:path}") for route in BatchApi(None, None, 0).routes()}  # type: ignore[arg-type]
    assert {"/".join(path.split("/")[:3]) for path in BATCH_PATHS} == passed_on


class Ingress:
    """The ingress on a port of this machine, before a simulated engine and without Ray."""

    def __init__(self) -> None:
        self.url = ""
        self._up, self._down = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    def __enter__(self) -> Ingress:
        self._thread.start()
        assert self._up.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._down.set()
        self._thread.join(30)

    async def _main(self) -> None:
        config = ModelConfig.model_validate({"id": "m", "engine": "simulated"})
        engine = ReplicaServer(_describing(SimulatedEngine(config).app), token="t", capacity=8, failure=lambda: None)
        pool = ReplicaPool("m", QueueLimits(8, 5, 5))
        url = await engine.start("127.0.0.1")
        pool.update([published("a", url=url, created=1700000000, versions={"simulated": "1"})])
        catalogue = Catalogue([Served(config, pool)])
        async with aiohttp.ClientSession() as session:
            router = Router(catalogue, metrics := Metrics())
            pages = [
                Models(catalogue),
                Status(catalogue),
                MetricsPages(catalogue, metrics, session),
                Docs(catalogue, session),
            ]
            adapters = AdapterPages(catalogue, router.adapters, session)
            app = IngressApp(
                router,
                Authentication(Keyring([])),
                [*pages, adapters, UsagePage(UsageBook(Path("/nowhere"))), Unoffered()],
                BodyReader(2**20, 2**24),
                Limiter([], lambda: 1),
            )
            server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
            serving = asyncio.create_task(server.serve())
            while not server.started:
                await asyncio.sleep(0.01)
            self.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
            self._up.set()
            await asyncio.to_thread(self._down.wait)
            server.should_exit = True
            await serving
        await engine.stop()


def _describing(app: ASGIApp) -> ASGIApp:
    """The engine's application with the page that vLLM's has."""

    async def described(scope: Scope, receive: Receive, send: Send) -> None:
        page = scope["type"] == "http" and scope["path"] == "/openapi.json"
        await (JSONResponse(DESCRIBED) if page else app)(scope, receive, send)

    return described


@pytest.fixture(scope="module")
def ingress() -> Iterator[Ingress]:
    with Ingress() as running:
        yield running


def test_the_ingress_answers_as_it_is_described(ingress: Ingress) -> None:
    asked = {one.label: check(one, 4) for one in operations(ingress.url) if "/autoscaling" not in one.label}
    assert {"GET /ready", "POST /ping", "GET /v1/models/{id}", "POST /v1/completions", "GET /docs"} <= asked.keys()
    assert all(asked.values())
