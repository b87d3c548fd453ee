"""A store, the API over it, and an engine's HTTP server for batches to work with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serve_app.batch.api.application import routes_over
from serve_app.batch.api.objects import Batch, File
from serve_app.batch.api.owners import Owners
from serve_app.batch.api.store import Store
from serve_app.batch.run.pooled import PoolClient
from serve_app.config.keys import UNNAMED, KeyConfig, unconfigured
from serve_app.config.schema import ModelConfig
from serve_app.http.pages import starlette_app
from serve_app.replica.server import ReplicaServer
from serve_app.routing.catalogue import Catalogue, Served
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from serve_app.routing.router import Router
from tests.support.replicas import published

MOST_BYTES = 100_000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store.open(tmp_path)
    yield store
    await store.close()


@pytest.fixture
async def http(store: Store) -> AsyncIterator[httpx.AsyncClient]:
    """The API, where nothing works through the batches."""
    app = routes_over(store, lambda: None, MOST_BYTES, Owners())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


@pytest.fixture
async def keyed(store: Store) -> AsyncIterator[Callable[[str], httpx.AsyncClient]]:
    """The API as the ingress asks it for a key; `boss` is an admin's."""
    app = routes_over(store, lambda: None, MOST_BYTES, Owners([KeyConfig(name="boss", key="k", admin=True)]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:

        def of(key: str) -> httpx.AsyncClient:
            client.headers["x-key-name"] = key
            return client

        yield of


@dataclass
class Engine:
    """Answers completions with their prompt, once it is let go; those for a free model at once."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    free: set[str] = field(default_factory=set)
    prompts: list[str] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.prompts.append(body["prompt"])
        self.keys.add(request.headers.get("x-key-name"))
        if body["model"] not in self.free:
            await self.go.wait()
        if body["prompt"] == "forbidden":
            return JSONResponse({"error": {"message": "no"}}, 401)
        if body["prompt"] == "bad":
            return JSONResponse({"error": {"message": "no", "code": "bad_prompt"}}, 400)
        usage = {"prompt_tokens": 2, "completion_tokens": 3}
        return JSONResponse({"id": "c", "choices": [{"text": body["prompt"]}], "usage": usage})


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
async def client(engine: Engine) -> AsyncIterator[Callable[..., PoolClient]]:
    """Makes clients of the engine, which is the one replica of the models `m` and `n`."""
    app = starlette_app([Route("/v1/completions", engine.complete, methods=["POST"])])
    server = ReplicaServer(app, token="t", capacity=64, failure=lambda: None)
    url = await server.start("127.0.0.1")
    served = []
    for model in ("m", "n"):
        pool = ReplicaPool(model, QueueLimits(1000, 5, 5))
        pool.update([published(model, model=model, url=url, capacity=64, max_running=64)])
        served.append(Served(ModelConfig.model_validate({"id": model, "engine": "simulated"}), pool))
    catalogue = Catalogue(served)
    router = Router(catalogue)
    yield lambda key=None: PoolClient(router, UNNAMED if key is None else unconfigured(key))
    engine.go.set()
    await server.stop()


async def add_file(store: Store, content: bytes, id: str = "file-1", **more: object) -> File:
    contents = store.incoming()
    contents.write_bytes(content)
    file = File(id=id, bytes=len(content), created_at=1, filename="a.jsonl", purpose="batch", **more)
    await store.add_file(contents, file)
    return file


async def add_batch(store: Store, id: str = "batch_1", **changes: object) -> Batch:
    now = int(time.time())
    fields = {
        "id": id,
        "endpoint": "/v1/completions",
        "input_file_id": "file-1",
        "completion_window": "24h",
        "status": "validating",
        "created_at": now,
        "expires_at": now + 86400,
    }
    batch = Batch(**(fields | changes))
    await store.add_batch(batch)
    return batch
