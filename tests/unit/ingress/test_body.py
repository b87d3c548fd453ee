"""Request bodies: size, time, memory."""

from __future__ import annotations

import asyncio

import pytest

from serve_app.http.errors import ApiError
from serve_app.ingress import body as bodies_module
from serve_app.ingress.body import BodyReader, TimedReceive
from serve_app.routing.head import ClientGone

MIB = 2**20
NO_HEADERS = {"headers": []}


def receiver(*messages: dict):
    """What a client sends, then nothing."""
    queue = list(messages)

    async def receive() -> dict:
        if not queue:
            await asyncio.Event().wait()
        return queue.pop(0)

    return receive


def chunk(body: bytes, more: bool = False) -> dict:
    return {"type": "http.request", "body": body, "more_body": more}


async def refused(bodies: BodyReader, receive, headers=()) -> ApiError:
    with pytest.raises(ApiError) as error:
        await bodies.read({"headers": headers}, receive)
    return error.value


async def test_joins_the_pieces_of_a_body() -> None:
    read = await BodyReader(10, 100).read(NO_HEADERS, receiver(chunk(b"ab", True), chunk(b"c")))
    assert read.data == b"abc"


@pytest.mark.parametrize(
    ("messages", "headers"),
    [((), [(b"content-length", b"11")]), ((chunk(b"x" * 8, True), chunk(b"x" * 8, True)), [])],
)
async def test_a_body_over_the_limit_is_refused_as_soon_as_that_is_known(messages, headers) -> None:
    bodies = BodyReader(10, 100)
    assert (await refused(bodies, receiver(*messages), headers)).status == 413
    assert bodies.held == 0


async def test_a_client_that_leaves_meanwhile_leaves_nothing_behind() -> None:
    bodies = BodyReader(10, 100)
    with pytest.raises(ClientGone):
        await bodies.read(NO_HEADERS, receiver(chunk(b"x", True), {"type": "http.disconnect"}))
    assert bodies.held == 0


async def test_large_bodies_share_what_a_process_may_hold_and_leave_small_ones_room() -> None:
    bodies = BodyReader(4 * MIB, 8 * MIB)
    large = [await bodies.read(NO_HEADERS, receiver(chunk(b"x" * 3 * MIB))) for _ in range(2)]
    full = await refused(bodies, receiver(chunk(b"x" * MIB, True), chunk(b"x")))
    assert (full.status, full.code, full.retry_after_s) == (503, "bodies_full", 2)
    assert bodies.held == 6 * MIB
    small = await bodies.read(NO_HEADERS, receiver(chunk(b"x" * MIB)))
    assert len(small.data) == MIB and bodies.held == 7 * MIB
    large[0].release()
    large[0].release()
    assert large[0].data == b"" and bodies.held == 4 * MIB
    await bodies.read(NO_HEADERS, receiver(chunk(b"x" * 2 * MIB)))


async def test_small_bodies_are_bounded_too() -> None:
    bodies = BodyReader(4 * MIB, 8 * MIB)
    for _ in range(8):
        await bodies.read(NO_HEADERS, receiver(chunk(b"x" * MIB)))
    assert (await refused(bodies, receiver(chunk(b"x")))).code == "bodies_full"


async def test_a_body_that_does_not_come_is_408_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies_module, "PATIENCE_S", 0.05)
    bodies = BodyReader(10, 100)
    error = await refused(bodies, TimedReceive(receiver(chunk(b"x", True))))
    assert (error.status, error.code, bodies.held) == (408, "request_timeout", 0)


async def test_a_trickle_is_408_although_it_never_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies_module, "PATIENCE_S", 0.2)

    async def trickle() -> dict:
        await asyncio.sleep(0.02)
        return chunk(b"x", True)

    async with asyncio.timeout(5):
        assert (await refused(BodyReader(10_000, 20_000), TimedReceive(trickle))).status == 408


async def test_a_slow_but_steady_body_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies_module, "PATIENCE_S", 0.5)
    monkeypatch.setattr(bodies_module, "LEAST_BYTES", 4)
    pieces = [chunk(b"xxxx", number < 9) for number in range(10)]

    async def steady() -> dict:
        await asyncio.sleep(0.1)
        return pieces.pop(0)

    assert len((await BodyReader(100, 200).read(NO_HEADERS, TimedReceive(steady))).data) == 40


async def test_a_complete_body_sets_no_limit_to_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies_module, "PATIENCE_S", 0.05)
    receive = TimedReceive(receiver(chunk(b"x")))
    await receive()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await receive()


@pytest.mark.parametrize("length", ["²".encode("latin-1"), b"9" * 5000, b"-1", b"x"])
async def test_a_length_that_is_none(length: bytes) -> None:
    scope = {"headers": [(b"content-length", length)]}
    try:
        assert (await BodyReader(10, 100).read(scope, receiver(chunk(b"ab")))).data == b"ab"
    except ApiError as refused:
        assert refused.status == 413
