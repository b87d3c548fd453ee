"""Reading the head of a request."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from serve_app.http.errors import ApiError
from serve_app.routing.head import read_head

JSON = [(b"content-type", b"application/json; charset=utf-8")]


def test_reads_the_model_and_skips_the_rest() -> None:
    assert read_head({"headers": JSON}, b'{"x": [1, {"model": 2}], "model": "m", "stream": true}').model == "m"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b"null", None),
        (b"NaN", None),
        (b"\xff\xfe{", None),
        (b'{"model": "m"} x', None),
        (b'{"a": "\t"}', None),
        (b'{"model": 1}', "model"),
        (b'{"model": "m", "foo": ' + b"[" * 2000 + b"]" * 2000 + b"}", None),
        (b'{"model": "m", "messages": ' + b'{"a":' * 100_000, None),
        (b'{"request_id": "' + b"a" * 1000 + b'"}', "request_id"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_routed_is_said(body: bytes, param: str | None) -> None:
    with pytest.raises(ApiError) as refused:
        read_head({"headers": JSON}, body)
    assert (refused.value.status, refused.value.param) == (400, param) and len(refused.value.message) < 300


TAKEN = {
    "an unknown role": '{"model": "m", "messages": [{"role": "custom", "content": "x"}]}',
    "no role": '{"model": "m", "messages": [{}]}',
    "messages of any type": '{"model": "m", "messages": "x"}',
    "messages of numbers": '{"messages": [1, 2], "model": "m"}',
    "conversations": '{"messages": [[{"role": "user", "content": "x"}]], "model": "m"}',
    "stream as a text": '{"model": "m", "stream": "true"}',
    "tools of any type": '{"model": "m", "tools": 7, "prompt": {}, "session_id": [], "priority": "x"}',
    "a lone surrogate": r'{"user": "\ud800", "model": "m"}',
    "an upper-case one": r'{"user": "\uDC00 \uDBFFx", "model": "m"}',
    "numbers that are none": '{"temperature": NaN, "a": [Infinity, -Infinity], "model": "m"}',
    "a key twice": '{"model": "x", "model": "m"}',
    "an escaped key": r'{"m\u006fdel": "m"}',
    "a number of 5,000 digits": '{"seed": ' + "9" * 5000 + ', "model": "m"}',
    "depth below the limit": '{"foo": ' + "[" * 800 + "]" * 800 + ', "model": "m"}',
}


@pytest.mark.parametrize("body", TAKEN.values(), ids=TAKEN.keys())
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_the_rest_is_for_the_engine_to_judge(body: str, encoding: str) -> None:
    """Whatever Python's own parser takes, which is the engine's; it also finds out how a body is encoded."""
    assert read_head({"headers": JSON}, body.encode(encoding)).model == "m"


def test_bytes_that_are_no_text_are_not_looked_at() -> None:
    assert read_head({"headers": JSON}, b'{"user": "\xff\xed\xa0\x80", "model": "m"}').model == "m"


KINDS = [b"", b"text/plain", b"application/vnd.api+json", b"application/x-www-form-urlencoded", b"a/" + b"b" * 50_000]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind[:20]))
def test_another_content_type_is_the_engines_to_refuse_where_it_can_be_routed(kind: bytes) -> None:
    scope = {"headers": [(b"content-type", kind)]}
    assert read_head(scope, b'{"model": "m"}').model == "m"
    for body in (b"{}", b"model=m", b""):
        with pytest.raises(ApiError) as refused:
            read_head(scope, body)
        assert refused.value.status == 415 and len(refused.value.message) < 300


@pytest.mark.parametrize(
    "messages", [[{"role": "user"}] * 200_000, [{}] * 200_000, [[]] * 200_000, [1] * 200_000], ids=lambda m: str(m[0])
)
def test_a_list_of_any_length_costs_no_memory(messages: list) -> None:
    body = json.dumps({"model": "m", "messages": messages}).encode()
    tracemalloc.start()
    try:
        head = read_head({"headers": JSON}, body)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert head.model == "m" and len(head.turns) <= 32
