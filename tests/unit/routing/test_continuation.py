"""Streams that go on with another replica, as a router has them: with simulated engines, and byte by byte."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.replica.said import BETWEEN, DIED, MARK, STOP, USED
from serve_app.replica.server import ReplicaServer
from serve_app.routing.body import RequestBody
from serve_app.routing.claim import Claim
from serve_app.routing.continuation import Continuation
from serve_app.routing.forward import Forwarder
from serve_app.routing.metrics import Metrics, ObservedRequest
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from serve_app.routing.request import RoutedRequest
from serve_app.routing.upstream import Upstream
from tests.support.continued import equal, joined
from tests.support.replicas import published
from tests.unit.engine.simulation.replica import FAST, Replica, served

BODY = b'{"model": "one", "prompt": "a", "max_tokens": 200, "stream": true, "stream_options": {"include_usage": true}}'
MARKED = b'\x011\ndata: {}\n\n\x015,6\x027\ndata: {"a": 1}\n\ndata: [DONE]\n\n'
MOST_STALLS = 10
SLOWER = FAST | {"step_base_ms": 3}
EVENTS = b'data: {}\n\ndata: {"a": 1}\n\ndata: [DONE]\n\n'


def kept(most_bytes: int = 1000) -> Continuation:
    return Continuation(RequestBody(b"{}"), most_bytes)


@given(st.lists(st.integers(1, len(MARKED) - 1)))
def test_marks_are_taken_out_however_the_bytes_come(cuts: list[int]) -> None:
    going = kept()
    at = [0, *sorted(cuts), len(MARKED)]
    pieces = [going.take(MARKED[begin:end]) for begin, end in itertools.pairwise(at) if begin < end]
    assert b"".join(pieces) == EVENTS and going.events == 3
    assert all(piece == b"" or piece.endswith(b"\n\n") for piece in pieces)
    headers, data = going.request()
    assert (b"x-said", b"2") in headers and data == b"{}3\n1" + BETWEEN + b"5,6" + BETWEEN + b"7"


def test_what_cannot_be_continued_is_not_and_nothing_is_kept_of_it() -> None:
    for going, marked in ((kept(), MARK + STOP + b"\n"), (kept(10), MARK + b"123456789\n"), (kept(2), b"")):
        assert going.take(marked + b"data: 1\n\n") == b"data: 1\n\n"
        assert not going.possible
        assert going.take(MARK + b"1\ndata: 2\n\n") == b"data: 2\n\n"
    assert kept(2).request() == ([], b"{}")


@pytest.mark.parametrize("most_bytes", [1000, 2])
def test_the_last_mark_says_what_the_answer_took(most_bytes: int) -> None:
    for pieces in ((MARKED, MARK + USED + b"120\n"), (MARKED + MARK + USED, b"120\n"), (MARKED, MARK, USED + b"120\n")):
        going = kept(most_bytes)
        assert going.used is None
        assert b"".join(map(going.take, pieces)) == EVENTS and going.used == 120


def test_an_engines_death_is_told_apart() -> None:
    going = kept()
    assert going.take(MARKED + MARK + DIED + b"\n") == EVENTS
    assert going.engine_died and going.possible


class Stack:
    """Simulated replicas behind a forwarder, and what a client of theirs gets."""

    def __init__(self, replicas: list[Replica]) -> None:
        self.replicas = replicas
        self.metrics = Metrics()
        self.pool = ReplicaPool("m", QueueLimits(100, 20, 20))
        self.died = 0
        self.announce()
        self._forward = Forwarder(Upstream(2, 30), 2**20)

    def announce(self) -> None:
        """As Ray Serve does, with their addresses for ids."""
        self.pool.update(published(one.url, url=one.url, capacity=64) for one in self.replicas)

    async def ask(self, after: int = 0, then: Callable[[], object] = lambda: None, body: bytes = BODY) -> bytes:
        """The whole answer; `then` is done once, after so many events."""
        got: list[bytes] = []

        async def send(message: dict) -> None:
            nonlocal after
            got.append(message.get("body", b""))
            if after and b"".join(got).count(b"\n\n") >= after:
                after = 0
                done = then()
                if asyncio.iscoroutine(done):
                    await done

        scope = {"method": "POST", "path": "/v1/completions", "headers": [(b"content-type", b"application/json")]}
        with ObservedRequest(self.metrics, "m", "/v1/completions") as seen:
            request = RoutedRequest(scope, RequestBody(body), self.pool, Claim())
            await self._forward(request, asyncio.Event().wait, send, seen)
        return b"".join(got)

    async def cut(self, after: int) -> bytes:
        """The whole answer whose engine died after so many events; another one where a stall let it end before."""
        cut: list[Replica] = []

        async def end() -> None:
            for one in self.replicas:
                if one.engine.load().running:
                    await one.engine.stop()
                    cut.append(one)

        for _ in range(MOST_STALLS):
            got = await self.ask(after, end)
            if cut:
                return got
        raise TimeoutError("this machine stalls too often")

    def continued(self, cause: str) -> float | None:
        return self.metrics.registry.get_sample_value(
            "serve_app_continued_streams_total", {"model": "m", "cause": cause}
        )


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    async with AsyncExitStack() as open_ones:
        started = [await open_ones.enter_async_context(served(SLOWER)) for _ in range(3)]
        yield Stack(started)


def same(one: bytes, other: bytes) -> bool:
    """But for what is each request's own."""
    ours, others = joined(one), joined(other)
    assert all(len(answer[name]) == 1 for answer in (ours, others) for name in (".id", ".created"))
    for name in (".id", ".created"):
        del ours[name], others[name]
    return equal(ours, others) and one.count(b"[DONE]") == other.count(b"[DONE]") == 1


@pytest.mark.parametrize("streamed", [True, False])
async def test_what_an_answer_took_counts_for_its_clients_share(stack: Stack, streamed: bool) -> None:
    engine = stack.replicas[0].engine
    server = ReplicaServer(engine.app, token="t", capacity=64, failure=engine.failure)
    stack.pool.update([published("a", url=await server.start("127.0.0.1"))])
    body = BODY if streamed else BODY.replace(b'"stream": true, "stream_options": {"include_usage": true}', b'"n": 1')
    assert (await stack.ask(body=body)).count(b"tok") >= 200
    assert stack.pool.shares.people.client(Claim()).mean == 201
    await server.stop()


@pytest.mark.parametrize("after", [1, 2, 57])
async def test_a_stream_goes_on_when_its_engine_dies(stack: Stack, after: int) -> None:
    undisturbed = await stack.ask()
    got = await stack.cut(after)
    assert same(got, undisturbed) and stack.continued("engine") == 1


async def test_one_that_loses_two_replicas_ends_with_an_error_event(stack: Stack) -> None:
    undisturbed = await stack.ask()
    doomed = BODY.replace(b'"a"', b'"SIMULATE:die"')
    got = await stack.ask(body=doomed)
    assert got.split(b"\n\n")[-2].startswith(b'data: {"error"') and b"[DONE]" not in got
    assert len([one for one in stack.replicas if one.engine.failure()]) == 2
    assert same(await stack.ask(), undisturbed)


async def test_what_kills_engines_takes_none_of_those_along_that_were_with_it(stack: Stack) -> None:
    """Each replica that dies is replaced, and all of them meet again and again."""
    undisturbed = await stack.ask()
    doomed = BODY.replace(b'"a"', b'"SIMULATE:die"')
    async with AsyncExitStack() as open_ones:

        async def replace_dead() -> None:
            while True:
                await asyncio.sleep(0.01)
                dead = [one for one in stack.replicas if one.engine.failure()]
                for one in dead:
                    stack.died += 1
                    stack.replicas.remove(one)
                    stack.replicas.append(await open_ones.enter_async_context(served(SLOWER)))
                    stack.announce()

        replacing = asyncio.create_task(replace_dead())
        killer, *others = await asyncio.gather(stack.ask(body=doomed), *(stack.ask() for _ in range(12)))
        replacing.cancel()
    assert killer.split(b"\n\n")[-2].startswith(b'data: {"error"') and 2 <= stack.died <= 3
    assert all(same(one, undisturbed) for one in others)


async def test_without_room_to_keep_it_a_stream_ends_as_it_would(stack: Stack) -> None:
    stack._forward = Forwarder(Upstream(2, 30), len(BODY) + 20)
    got = await stack.cut(50)
    assert got.split(b"\n\n")[-2].startswith(b'data: {"error"') and b"[DONE]" not in got
    assert stack.continued("engine") == 0
