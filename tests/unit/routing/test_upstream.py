"""The hot path's HTTP client against a server that says what the test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from serve_app.routing.upstream import BUFFERED_MOST_BYTES, Upstream, UpstreamError
from tests.support.upstream import ask

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SHORT = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-Name: value\r\n\r\nok"


class Server:
    """Lets `talk` answer each connection; remembers the requests."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self.talk: Talk = self.short

    async def short(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await self.request(reader):
            writer.write(SHORT)

    async def request(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        self.requests.append(head + await reader.readexactly(length))
        return self.requests[-1]

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self.talk(reader, writer)
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, str]]:
    server = Server()
    listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
    yield server, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    listening.close()


async def test_one_connection_serves_one_request_after_another(server: tuple[Server, str]) -> None:
    served, url = server
    upstream = Upstream(2, 30)
    assert [await ask(upstream, url, body) for body in (b"{}", b"", b"x" * 1_000_000)] == [b"ok"] * 3
    assert served.connections == 1
    head, _, body = served.requests[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/x HTTP/1.1" and body == b"{}"
    assert set(lines[1:]) == {b"host: " + url.partition("//")[2].encode(), b"content-length: 2", b"accept: a/b"}
    assert len(served.requests[2].partition(b"\r\n\r\n")[2]) == 1_000_000


async def test_requests_at_once_have_a_connection_each_and_share_them_later(server: tuple[Server, str]) -> None:
    upstream = Upstream(2, 30)
    for _ in range(2):
        assert await asyncio.gather(*(ask(upstream, server[1]) for _ in range(5))) == [b"ok"] * 5
    assert server[0].connections == 5


async def test_a_connection_that_rested_too_long_is_not_used_again(server: tuple[Server, str]) -> None:
    upstream = Upstream(2, 0.05)
    await ask(upstream, server[1])
    await asyncio.sleep(0.1)
    await ask(upstream, server[1])
    assert server[0].connections == 2


async def test_a_connection_the_server_closed_is_not_used_again(server: tuple[Server, str]) -> None:
    served, url = server

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await served.request(reader)
        writer.write(SHORT)

    served.talk = once
    upstream = Upstream(2, 30)
    await ask(upstream, url)
    await asyncio.sleep(0.05)
    assert await ask(upstream, url) == b"ok" and served.connections == 2


async def test_chunks_come_as_they_are_sent(server: tuple[Server, str]) -> None:
    served, url = server
    seen = asyncio.Event()

    async def chunked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await served.request(reader)
        writer.write(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await seen.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
        await reader.read()

    served.talk = chunked
    answer = await Upstream(2, 30).request("POST", url, "/", [], b"")
    assert answer.status == 201 and answer.headers == [(b"transfer-encoding", b"chunked")]
    assert await answer.read() == b"one"
    seen.set()
    assert await answer.read() == b"two"
    assert await answer.read() == b""
    answer.close()


@pytest.mark.parametrize(
    ("said", "reason"),
    [(b"", "closed"), (b"SSH-2.0-x\r\n", "not HTTP"), (b"HTTP/1.1 200 OK\r\ncontent-le", "closed")],
)
async def test_a_server_that_does_not_answer(server: tuple[Server, str], said: bytes, reason: str) -> None:
    served, url = server

    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await served.request(reader)
        writer.write(said)

    served.talk = breaks
    with pytest.raises(UpstreamError, match=reason) as caught:
        await ask(Upstream(2, 30), url)
    assert caught.value.connected


async def test_an_answer_that_stops_in_the_middle(server: tuple[Server, str]) -> None:
    served, url = server

    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await served.request(reader)
        writer.write(SHORT[:-1])

    served.talk = breaks
    answer = await Upstream(2, 30).request("POST", url, "/", [], b"")
    assert await answer.read() == b"o"
    with pytest.raises(UpstreamError):
        await answer.read()


async def test_nobody_listens() -> None:
    with pytest.raises(UpstreamError) as caught:
        await ask(Upstream(2, 30), "http://127.0.0.1:9")
    assert not caught.value.connected


async def test_a_reader_that_leaves_breaks_the_connection(server: tuple[Server, str]) -> None:
    served, url = server
    left = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await served.request(reader)
        writer.write(SHORT[:-1])
        await reader.read()
        left.set()

    served.talk = endless
    upstream = Upstream(2, 30)
    answer = await upstream.request("POST", url, "/", [], b"")
    answer.close()
    async with asyncio.timeout(2):
        await left.wait()


async def test_a_slow_reader_holds_the_server_back(server: tuple[Server, str]) -> None:
    served, url = server
    size = 64 * 2**20
    written = 0

    async def much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await served.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while written < size:
            writer.write(bytes(2**16))
            written += 2**16
            await writer.drain()
        await reader.read()

    served.talk = much
    answer = await Upstream(2, 30).request("POST", url, "/", [], b"")
    await asyncio.sleep(0.3)
    assert written < size / 2
    received = 0
    while data := await answer.read():
        received += len(data)
        assert len(data) < BUFFERED_MOST_BYTES + 2**20
    answer.close()
    assert received == size
