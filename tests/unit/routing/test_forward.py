"""The hot path against replicas that answer, refuse, break off or die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from serve_app.http.errors import ApiError
from serve_app.routing.body import RequestBody
from serve_app.routing.claim import Claim
from serve_app.routing.forward import Forwarder
from serve_app.routing.head import ClientGone
from serve_app.routing.metrics import Metrics, ObservedRequest
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from serve_app.routing.replica import Published
from serve_app.routing.request import RoutedRequest
from serve_app.routing.upstream import Upstream
from tests.support.replicas import published

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def refusal(reason: str) -> bytes:
    return f"HTTP/1.1 503 X\r\nx-replica-refused: {reason}\r\ncontent-length: 0\r\n\r\n".encode()


class Replicas:
    """Raw servers that send given bytes and hang up, or hold the line."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.heads: list[bytes] = []
        self.servers: list[asyncio.Server] = []
        self.hung_up = asyncio.Event()

    async def add(self, name: str, answer: bytes, hold: bool = False) -> Published:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            self.seen.append(name)
            writer.write(answer)
            if hold:
                await writer.drain()
                while await reader.read(1024):
                    pass
                self.hung_up.set()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.servers.append(server)
        port = server.sockets[0].getsockname()[1]
        return published(name, url=f"http://127.0.0.1:{port}")


@pytest.fixture
async def replicas() -> AsyncIterator[Replicas]:
    replicas = Replicas()
    yield replicas
    for server in replicas.servers:
        server.close()


@pytest.fixture
async def forward() -> AsyncIterator[Callable]:
    forwarder = Forwarder(Upstream(2, 30))

    async def run(
        *published: Published, leaves: asyncio.Event | None = None, sequences: int = 1
    ) -> tuple[list[dict], ReplicaPool]:
        pool = ReplicaPool("m", QueueLimits(8, 1, 0.2))
        pool.update(published)
        sent: list[dict] = []

        async def send(message: dict) -> None:
            sent.append(message)

        async def receive() -> dict:
            await (leaves or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        scope = {
            "method": "POST",
            "path": "/v1/completions",
            "headers": [(b"accept", b"*/*")],
        }
        with ObservedRequest(Metrics(), "m", "/v1/completions") as seen:
            request = RoutedRequest(scope, RequestBody(b"{}"), pool, Claim(sequences))
            await forwarder(request, receive, send, seen)
        assert all(replica.in_flight == 0 for replica in pool.replicas)
        return sent, pool

    yield run


def dead(name: str) -> Published:
    return published(name)


def body(sent: list[dict]) -> bytes:
    return b"".join(message.get("body", b"") for message in sent)


async def test_the_answer_comes_back_as_it_was(forward: Callable, replicas: Replicas) -> None:
    sent, _ = await forward(await replicas.add("a", OK))
    assert sent[0]["status"] == 200 and (b"content-type", b"application/json") in sent[0]["headers"]
    assert (b"x-replica", b"a") in sent[0]["headers"]
    assert body(sent) == b"{}" and sent[-1]["more_body"] is False


async def test_a_replica_is_told_of_a_requests_sequences(forward: Callable, replicas: Replicas) -> None:
    replica = await replicas.add("a", OK)
    await forward(replica)
    await forward(replica, sequences=5)
    alone, five = replicas.heads
    assert b"x-sequences" not in alone and b"x-sequences: 5\r\n" in five


async def test_an_engine_is_told_of_a_client_that_holds_much_less_than_others(replicas: Replicas) -> None:
    pool = ReplicaPool("m", QueueLimits(8, 1, 0.2))
    pool.update([await replicas.add("a", OK)])

    async def ask(claim: Claim) -> bool:
        scope = {"method": "POST", "path": "/v1/completions", "headers": []}
        with ObservedRequest(Metrics(), "m", "/") as seen:
            request = RoutedRequest(scope, RequestBody(b"{}"), pool, claim)
            await Forwarder(Upstream(2, 30))(request, None, lambda message: asyncio.sleep(0), seen)
        return b"x-light: 1" in replicas.heads[-1]

    flood = Claim(client="flood")
    for _ in range(5):
        await pool.acquire(flood)
    assert not await ask(flood)
    assert await ask(Claim(client="other")) and not await ask(Claim(client="other", batch=True))


@pytest.mark.parametrize("first", ["unreachable", "hangs up", "draining", "dead", "died"])
async def test_another_replica_answers_instead(forward: Callable, replicas: Replicas, first: str) -> None:
    good = await replicas.add("good", OK)
    bad = {
        "unreachable": dead("bad"),
        "hangs up": await replicas.add("bad", b""),
        **{reason: await replicas.add("bad", refusal(reason)) for reason in ("draining", "dead", "died")},
    }[first]
    for _ in range(64):
        sent, pool = await forward(bad, good)
        assert body(sent) == b"{}"
        ejected = {replica.id for replica in pool.replicas if replica.breaks}
        if ejected:
            assert ejected == {"bad"}
            return
    pytest.fail("the bad replica was never tried")


async def test_a_full_replica_is_not_held_against(forward: Callable, replicas: Replicas) -> None:
    with pytest.raises(ApiError) as refused:
        await forward(await replicas.add("full", refusal("full")))
    assert refused.value.status == 429 and len(replicas.seen) > 1


async def test_a_request_that_kills_is_not_passed_on_for_ever(forward: Callable, replicas: Replicas) -> None:
    with pytest.raises(ApiError) as refused:
        await forward(*[await replicas.add(name, refusal("died")) for name in "abcd"])
    assert refused.value.status == 503 and len(replicas.seen) == 2


async def test_a_request_whose_replicas_are_lost_twice_gets_a_third(forward: Callable, replicas: Replicas) -> None:
    lost = [await replicas.add(name, b"") for name in "ab"]
    for _ in range(64):
        replicas.seen.clear()
        sent, _ = await forward(*lost, await replicas.add("good", OK))
        assert body(sent) == b"{}"
        if len(replicas.seen) == 3:
            return
    pytest.fail("the good replica was never the third")


async def test_a_broken_stream_ends_with_an_error_event(forward: Callable, replicas: Replicas) -> None:
    sent, _ = await forward(await replicas.add("a", STREAM + b"7\r\ndata: 1\r\n"))
    assert body(sent).startswith(b"data: 1") and b'"error"' in body(sent) and b"[DONE]" not in body(sent)


async def test_a_stream_broken_inside_an_event_still_ends_with_one_of_its_own(
    forward: Callable, replicas: Replicas
) -> None:
    sent, _ = await forward(await replicas.add("a", STREAM + b'9\r\ndata: {"a\r\n'))
    assert body(sent).split(b"\n\n")[-2].startswith(b'data: {"error"')


async def test_a_client_that_cannot_be_written_to_is_not_held_against_the_replica(replicas: Replicas) -> None:
    pool = ReplicaPool("m", QueueLimits(8, 1, 0.2))
    pool.update([await replicas.add("a", OK)])

    async def broken_pipe(message: dict) -> None:
        raise BrokenPipeError

    scope = {"method": "POST", "path": "/v1/completions", "headers": []}
    with ObservedRequest(Metrics(), "m", "/") as seen, pytest.raises(BrokenPipeError):
        request = RoutedRequest(scope, RequestBody(b"{}"), pool, Claim())
        await Forwarder(Upstream(2, 30))(request, asyncio.Event().wait, broken_pipe, seen)
    assert [replica.breaks for replica in pool.replicas] == [0] and replicas.seen == ["a"]


async def test_a_broken_answer_breaks_the_connection(forward: Callable, replicas: Replicas) -> None:
    with pytest.raises(ConnectionError):
        await forward(await replicas.add("a", OK.replace(b"length: 2", b"length: 9")))


async def test_a_client_that_leaves_closes_the_way_to_the_replica(forward: Callable, replicas: Replicas) -> None:
    leaves = asyncio.Event()

    async def leave() -> None:
        while not replicas.seen:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        leaves.set()

    leaving = asyncio.create_task(leave())
    with pytest.raises(ClientGone):
        await forward(await replicas.add("a", STREAM, hold=True), leaves=leaves)
    await leaving
    await asyncio.wait_for(replicas.hung_up.wait(), 20)
