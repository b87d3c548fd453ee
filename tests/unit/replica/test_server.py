"""Admission control at a replica's server: token, capacity, drain, death."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from serve_app.replica.server import ReplicaServer

TOKEN = {"x-replica-token": "secret"}


class Application:
    """An application whose answers wait until they are let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.failure: str | None = None
        self.at_work = 0
        self.bodies: list[bytes] = []
        self.app = Starlette(routes=[Route("/work", self.work, methods=["GET", "POST"])])

    async def work(self, request: Request) -> Response:
        if request.method == "POST":
            self.bodies.append(await request.body())
            self.at_work += 1
            await self.go.wait()
            self.at_work -= 1
        return PlainTextResponse("done", 500 if self.failure else 200)


@pytest.fixture
async def held() -> Application:
    return Application()


@pytest.fixture
async def server(held: Application) -> AsyncIterator[ReplicaServer]:
    server = ReplicaServer(held.app, token="secret", capacity=2, failure=lambda: held.failure)
    yield server
    held.go.set()
    await server.stop()


@pytest.fixture
async def http(server: ReplicaServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=await server.start("127.0.0.1"), timeout=10) as client:
        yield client


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("headers", [{}, {"x-replica-token": "wrong"}, {"x-replica-token": ""}])
async def test_nobody_enters_without_the_token(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    for method in ("GET", "POST"):
        response = await http.request(method, "/work", headers=headers)
        assert response.status_code == 401 and response.json()["error"]["message"]


async def test_refuses_beyond_its_capacity(http: httpx.AsyncClient, held: Application, server: ReplicaServer) -> None:
    open_requests = [asyncio.create_task(http.post("/work", headers=TOKEN)) for _ in range(2)]
    await until(lambda: server.admission.in_flight == 2)
    refused = await http.post("/work", headers=TOKEN)
    assert refused.status_code == 503 and refused.headers["x-replica-refused"] == "full"
    held.go.set()
    assert [(await one).text for one in open_requests] == ["done"] * 2
    assert server.admission.in_flight == 0


async def test_refuses_who_asks_for_a_place_where_there_is_none(
    http: httpx.AsyncClient, held: Application, server: ReplicaServer
) -> None:
    asks = {**TOKEN, "x-batch-places": "1"}
    one = asyncio.create_task(http.post("/work", headers=asks))
    await until(lambda: server.admission.in_flight == 1)
    refused = await http.post("/work", headers=asks)
    assert refused.status_code == 503 and refused.headers["x-replica-refused"] == "crowded"
    two = asyncio.create_task(http.post("/work", headers=TOKEN))
    await until(lambda: server.admission.in_flight == 2)
    assert (await http.post("/work", headers=asks)).headers["x-replica-refused"] == "full"
    held.go.set()
    assert (await one).text == (await two).text == "done"


async def test_counts_sequences_and_refuses_whoever_comes_while_one_of_many_waits_for_room(
    http: httpx.AsyncClient, held: Application, server: ReplicaServer
) -> None:
    one = asyncio.create_task(http.post("/work", headers=TOKEN))
    await until(lambda: held.at_work == 1)
    two = asyncio.create_task(http.post("/work", headers={**TOKEN, "x-sequences": "2"}, content=b"both"))
    await until(lambda: server.admission.in_flight == 3)
    assert (await http.post("/work", headers=TOKEN)).headers["x-replica-refused"] == "full"
    assert held.at_work == 1 and not two.done()
    held.go.set()
    assert (await one).text == "done" and (await two).text == "done"
    assert held.bodies == [b"", b"both"]
    assert (server.admission.in_flight, server.admission.accepted, server.admission.interactive_begun) == (0, 3, 3)


async def test_one_of_many_that_leaves_while_it_waits_frees_its_place(
    http: httpx.AsyncClient, held: Application, server: ReplicaServer
) -> None:
    one = asyncio.create_task(http.post("/work", headers=TOKEN))
    await until(lambda: held.at_work == 1)
    two = asyncio.create_task(http.post("/work", headers={**TOKEN, "x-sequences": "2"}))
    await until(lambda: server.admission.in_flight == 3)
    two.cancel()
    await until(lambda: server.admission.in_flight == 1)
    held.go.set()
    assert (await one).text == "done" and held.bodies == [b""]


async def test_drains_what_is_open_and_refuses_what_comes(
    http: httpx.AsyncClient, held: Application, server: ReplicaServer
) -> None:
    accepted = asyncio.create_task(http.post("/work", headers=TOKEN))
    await until(lambda: server.admission.in_flight == 1)
    drained = asyncio.create_task(server.admission.drain(5))
    await until(lambda: server.admission.draining)
    refused = await http.post("/work", headers=TOKEN)
    assert refused.headers["x-replica-refused"] == "draining" and not drained.done()
    held.go.set()
    assert (await accepted).text == "done" and await drained


async def test_a_drain_ends_at_its_time_limit(
    http: httpx.AsyncClient, held: Application, server: ReplicaServer
) -> None:
    accepted = asyncio.create_task(http.post("/work", headers=TOKEN))
    await until(lambda: server.admission.in_flight == 1)
    assert not await server.admission.drain(0.01)
    held.go.set()
    await accepted


async def test_an_engine_that_died_sends_the_request_elsewhere(
    http: httpx.AsyncClient, held: Application, server: ReplicaServer
) -> None:
    accepted = asyncio.create_task(http.post("/work", headers=TOKEN))
    await until(lambda: server.admission.in_flight == 1)
    held.failure = "gone"
    held.go.set()
    assert (await accepted).headers["x-replica-refused"] == "died"
    assert (await http.post("/work", headers=TOKEN)).headers["x-replica-refused"] == "dead"
