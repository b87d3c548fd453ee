"""A replica from which nothing comes is found, one that is only slow is not; on the hot path's own client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from serve_app.routing import silence, upstream
from serve_app.routing.silence import ReplicaLine, Sign
from serve_app.routing.upstream import Upstream, UpstreamError
from tests.support.upstream import ask

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b"2\r\nok\r\n"
END = b"0\r\n\r\n"
NO = b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth of the times."""
    for module, name, value in (
        (silence, "LOOK_S", 0.01),
        (silence, "SUSPECT_S", 0.02),
        (silence, "LEAST_S", 0.15),
        (upstream, "ASKED_S", 0.05),
    ):
        monkeypatch.setattr(module, name, value)


class StrangeReplica:
    """Sends a chunk of an answer and then what `answer` sends; answers other questions while it is `there`."""

    def __init__(self) -> None:
        self.there = True
        self.answer: Callable[[asyncio.StreamWriter], Awaitable[None]] = self.never
        self.asked = 0

    async def never(self, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET"):
                self.asked += 1
                while not self.there:
                    await asyncio.sleep(0.01)
                writer.write(NO)
                return
            writer.write(HEAD + CHUNK)
            await self.answer(writer)
            writer.write(END)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@pytest.fixture
async def replica() -> AsyncIterator[tuple[StrangeReplica, str]]:
    one = StrangeReplica()
    listening = await asyncio.start_server(one, "127.0.0.1", 0)
    yield one, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    listening.close()


async def test_one_that_is_frozen_is_left_with_all_its_requests(replica: tuple[StrangeReplica, str]) -> None:
    one, url = replica
    one.there = False
    client, found = Upstream(2, 30), list[str]()
    client.silence.on_frozen = found.append
    async with asyncio.timeout(10):
        ended = await asyncio.gather(*(ask(client, url) for _ in range(3)), return_exceptions=True)
    assert found == [url], "it is told once"
    assert all(isinstance(error, UpstreamError) and error.answered for error in ended)
    assert client.silence.is_frozen(url)
    with pytest.raises(UpstreamError) as refused:
        await ask(client, url)
    assert not refused.value.connected, "who comes later does not wait for it"


async def test_one_that_comes_back_is_asked_again_and_may_be_silent_for_longer(
    replica: tuple[StrangeReplica, str],
) -> None:
    one, url = replica
    one.there = False
    client = Upstream(2, 30)
    async with asyncio.timeout(10):
        with pytest.raises(UpstreamError):
            await ask(client, url)
        one.there = True
        while client.silence.is_frozen(url):
            await asyncio.sleep(0.01)

    async def soon(writer: asyncio.StreamWriter) -> None:
        return

    one.answer = soon
    assert await ask(client, url) == b"ok"
    now = asyncio.get_running_loop().time()
    assert client.silence._lines[url].bound_s(now) > silence.LEAST_S


async def test_a_long_prefill_is_not_a_death(replica: tuple[StrangeReplica, str]) -> None:
    one, url = replica

    async def late(writer: asyncio.StreamWriter) -> None:
        while one.asked < 20:
            await asyncio.sleep(0.01)

    one.answer = late
    client, found = Upstream(2, 30), list[str]()
    client.silence.on_frozen = found.append
    async with asyncio.timeout(20):
        assert await ask(client, url) == b"ok"
    assert not found


async def test_a_client_that_reads_slowly_makes_no_replica_suspicious(replica: tuple[StrangeReplica, str]) -> None:
    one, url = replica

    async def much(writer: asyncio.StreamWriter) -> None:
        for _ in range(200_000):
            writer.write(CHUNK)

    one.answer, one.there = much, False
    client, found = Upstream(2, 30), list[str]()
    client.silence.on_frozen = found.append
    answer = await client.request("POST", url, "/v1/x", [], b"{}")
    async with asyncio.timeout(20):
        while not answer.waits_for_client:
            await asyncio.sleep(0.05)
    found.clear()
    await asyncio.sleep(0.5)
    assert not found
    answer.close()


async def test_one_that_nobody_listens_for_is_dead_and_not_frozen() -> None:
    client = Upstream(2, 30)
    assert await client._is_there("http://127.0.0.1:1") is Sign.GONE


def test_the_bound_follows_the_silences_that_it_came_back_from(monkeypatch: pytest.MonkeyPatch) -> None:
    line = ReplicaLine("u", 0.0)
    assert line.bound_s(0.0) == silence.LEAST_S
    line.survived.add(10.0, 0.0)
    assert line.bound_s(0.0) == silence.PAUSES * 10.0
    assert line.bound_s(silence.HALVED_S) == silence.PAUSES * 5.0
    line.survived.add(1e6, 0.0)
    assert line.bound_s(0.0) == silence.MOST_S
