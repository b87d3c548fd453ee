"""Reading the head of a request."""

from __future__ import annotations

import pytest

from serve_app.errors import ApiError
from serve_app.ingress.request import ClientGone, read_body, read_head

JSON = [(b"content-type", b"application/json; charset=utf-8")]


def receiver(*messages: dict):
    queue = list(messages)

    async def receive() -> dict:
        return queue.pop(0)

    return receive


def chunk(body: bytes, more: bool = False) -> dict:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_joins_the_pieces_of_a_body() -> None:
    assert await read_body({"headers": []}, receiver(chunk(b"ab", True), chunk(b"c")), 10) == b"abc"


async def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(ApiError) as refused:
        await read_body({"headers": [(b"content-length", b"11")]}, receiver(), 10)
    assert refused.value.status == 413


async def test_an_undeclared_length_over_the_limit_stops_the_reading() -> None:
    with pytest.raises(ApiError) as refused:
        await read_body({"headers": []}, receiver(chunk(b"x" * 8, True), chunk(b"x" * 8, True)), 10)
    assert refused.value.status == 413


async def test_a_client_that_leaves_meanwhile() -> None:
    with pytest.raises(ClientGone):
        await read_body({"headers": []}, receiver(chunk(b"x", True), {"type": "http.disconnect"}), 10)


def test_reads_model_and_stream_and_skips_the_rest() -> None:
    head = read_head({"headers": JSON}, b'{"x": [1, {"model": 2}], "model": "m", "stream": true}')
    assert (head.model, head.stream) == ("m", True)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b'{"model": 1}', "model"),
        (b'{"messages": [{"role": "wizard"}]}', "messages[0].role"),
        (b'{"messages": [{}]}', "messages[0]"),
        (b'{"messages": "x"}', "messages"),
    ],
)
def test_what_is_wrong_is_said(body: bytes, param: str | None) -> None:
    with pytest.raises(ApiError) as refused:
        read_head({"headers": JSON}, body)
    assert refused.value.status == 400 and refused.value.param == param


@pytest.mark.parametrize("kind", [b"", b"text/plain", b"application/x-www-form-urlencoded"])
def test_another_content_type_is_415(kind: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        read_head({"headers": [(b"content-type", kind)]}, b"{}")
    assert refused.value.status == 415
