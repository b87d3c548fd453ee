"""/v1/files and /v1/batches on their way through the ingress to the batch deployment."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from urllib.parse import quote

import aiohttp
import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.config.keys import KeyConfig
from serve_app.config.names import BATCH_POOL
from serve_app.http.errors import ApiError
from serve_app.http.pages import starlette_app
from serve_app.ingress.authentication import OWNER
from serve_app.ingress.batches import FORM_BYTES, BatchApi
from serve_app.replica.protocol import TOKEN_HEADER
from serve_app.replica.server import ReplicaServer
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from tests.support.replicas import published

MOST = 2**20
TOKEN = TOKEN_HEADER.decode()
KEY = KeyConfig(name="a", key="k")


async def digest(request: Request) -> Response:
    found, size = hashlib.sha256(), 0
    async for piece in request.stream():
        found.update(piece)
        size += len(piece)
    headers = {name: request.headers.get(name, "") for name in ("content-type", "authorization", "x-key-name")}
    return JSONResponse({"sha256": found.hexdigest(), "size": size, "query": str(request.query_params), **headers})


async def content(request: Request) -> Response:
    if request.path_params["id"] == "none":
        raise ApiError(404, "there is no such file", code="file_not_found")
    return StreamingResponse((bytes([number]) * 2**16 for number in range(32)), headers={"x-mine": "1"})


async def named(request: Request) -> Response:
    return JSONResponse({"id": request.path_params["id"], "query": str(request.query_params)})


@pytest.fixture
async def pool() -> AsyncIterator[ReplicaPool]:
    app = starlette_app(
        [
            Route("/v1/files", digest, methods=["GET", "POST"]),
            Route("/v1/files/{id}/content", content),
            Route("/v1/files/{id}", named),
            Route("/metrics", lambda request: Response("own page")),
        ]
    )
    server = ReplicaServer(app, token="t", capacity=8, failure=lambda: None)
    pool = ReplicaPool(BATCH_POOL, QueueLimits(10, 0.1, 0.1))
    pool.update([published(model=BATCH_POOL, url=await server.start("127.0.0.1"))])
    yield pool
    await server.stop()


def page(pool: ReplicaPool | None, session: aiohttp.ClientSession) -> ASGIApp:
    """As the ingress asks it, for a key."""
    app = starlette_app(BatchApi(pool, session, MOST).routes())

    async def owned(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, OWNER: KEY}, receive, send)

    return owned


async def client(pool: ReplicaPool | None) -> AsyncIterator[httpx.AsyncClient]:
    async with aiohttp.ClientSession() as session:
        transport = httpx.ASGITransport(page(pool, session))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            yield http


@pytest.fixture
async def http(pool: ReplicaPool) -> AsyncIterator[httpx.AsyncClient]:
    async for http in client(pool):
        yield http


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(2**16)


async def test_bodies_go_through_as_they_are(http: httpx.AsyncClient) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b", "authorization": "Bearer secret", "x-key-name": "b"}
    answer = (await http.post("/v1/files?a=1&b=%2F", content=pieces(16), headers=headers)).json()
    assert answer["sha256"] == hashlib.sha256(bytes(2**20)).hexdigest()
    assert answer["content-type"] == headers["content-type"] and answer["query"] == "a=1&b=%2F"
    assert answer["authorization"] == "" and answer["x-key-name"] == "a"
    down = await http.get("/v1/files/one/content")
    assert len(down.content) == 2**21 and down.headers["x-mine"] == "1"
    assert (await http.get("/v1/files")).json()["size"] == 0


@pytest.mark.parametrize("climb", ["..%2f", "%2e%2e%2f", "../", "%2e%2e/", "..%2f..%2f", "..%5c..%2f"])
async def test_no_path_leads_to_the_replicas_own_pages(pool: ReplicaPool, climb: str) -> None:
    """Over real HTTP: what a client library makes of a path differs from what a client may send."""
    async with aiohttp.ClientSession() as session:
        app = page(pool, session)
        server = ReplicaServer(app, token="c", capacity=8, failure=lambda: None)
        host, port = (await server.start("127.0.0.1")).removeprefix("http://").split(":")
        for path in (f"/v1/files/{climb * 2}metrics", f"/v1/files/x/{climb * 3}metrics", f"/v1/batches/{climb}metrics"):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n{TOKEN}: c\r\nconnection: close\r\n\r\n".encode())
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 404") and b"own page" not in answer, path
            writer.close()
        await server.stop()


async def test_errors_of_the_deployment_reach_the_client(http: httpx.AsyncClient) -> None:
    for path, code in (("/v1/files/none/content", "file_not_found"), ("/v1/batches/x/y", "unknown_route")):
        answer = await http.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, code)


@pytest.mark.parametrize("id", ["a b", "a?limit=1", "a#b", "%2e%2e", "é", "a%2fb"])
async def test_an_id_arrives_as_it_was(http: httpx.AsyncClient, id: str) -> None:
    answer = await http.get(f"/v1/files/{quote(id, safe='')}")
    assert answer.json() == {"id": id, "query": ""}


async def test_what_is_too_large_is_413_with_and_without_a_length(http: httpx.AsyncClient, pool: ReplicaPool) -> None:
    count = (MOST + FORM_BYTES) // 2**16 + 1
    for content in (bytes(count * 2**16), pieces(count)):
        answer = await http.post("/v1/files", content=content)
        assert answer.status_code == 413 and "batch.max_file_mib" in answer.json()["error"]["message"]
    assert not pool.replicas[0].in_flight


async def test_a_deployment_that_is_gone_is_503(http: httpx.AsyncClient, pool: ReplicaPool) -> None:
    gone = published(model=BATCH_POOL)
    pool.update([gone])
    for replicas in ([gone], []):
        pool.update(replicas)
        answer = await http.get("/v1/batches")
        assert answer.status_code == 503 and answer.headers["retry-after"]


async def test_without_the_section_it_says_which_key_switches_it_on() -> None:
    async for http in client(None):
        for path in ("/v1/files", "/v1/batches/batch_1/cancel"):
            answer = await http.post(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "batch_api_off")
            assert "batch: {directory" in answer.json()["error"]["message"]
