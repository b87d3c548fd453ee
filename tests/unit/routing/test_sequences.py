"""How many sequences a request is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serve_app.http.errors import ApiError
from serve_app.routing import sequences
from serve_app.routing.head import read_fields


def bounded(body: bytes, most: int, path: str = "") -> int:
    return sequences.bounded(read_fields(body), body, most, path)


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ({}, 1),
        ({"messages": [{"role": "user", "content": "a"}] * 5}, 1),
        ({"messages": [[{"role": "user", "content": "a"}]] * 5, "n": 2}, 10),
        ({"n": 7}, 7),
        ({"n": "7"}, 7),
        ({"n": " 7 "}, 7),
        ({"n": 7.0}, 7),
        ({"n": None}, 1),
        ({"n": True}, 1),
        ({"n": -3}, 1),
        ({"n": [3]}, 1),
        ({"n": "many"}, 1),
        ({"n": float("nan")}, 1),
        ({"n": "9" * 5000}, 2**31),
        ({"n": 3, "use_beam_search": True}, 3),
        ({"prompt": "a"}, 1),
        ({"prompt": []}, 1),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": ["a", 'b", "c', "d"]}, 3),
        ({"prompt": [[1, 2], [3], [4]], "n": 2}, 6),
        ({"input": ["a", "b"]}, 2),
        ({"input": [[1], [2]]}, 2),
        ({"input": [1, 2]}, 1),
        ({"input": [{"role": "user", "content": "a"}] * 3}, 1),
        ({"n": 5, "temperature": float("nan")}, 5),
        ({"n": 5, "user": "\ud800"}, 5),
    ],
)
def test_counts(body: dict[str, Any], count: int) -> None:
    assert sequences.count(json.dumps(body).encode()) == count


@pytest.mark.parametrize(
    "body",
    [
        b'{"n": 1, "n": 5}',
        b'{"\\u006e": 5}',
        '\ufeff{"n": 5}'.encode(),
        '{"n": 5}'.encode("utf-16"),
        b'{"prompt":' + b" " * 1000 + b"[" + b"\n" * 1000 + b'"a", "b", "c", "d", "e"]}',
    ],
)
def test_counts_what_is_written_in_other_ways(body: bytes) -> None:
    assert sequences.count(body) == 5


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"3", b'{"n": ' + b"[" * 3000, b'{"prompt": ["a", ]}'])
def test_what_cannot_be_read_is_one(body: bytes) -> None:
    assert sequences.count(body) == 1


def test_beyond_the_bound_is_400_with_the_number() -> None:
    assert bounded(b'{"n": 8}', 8) == 8
    with pytest.raises(ApiError) as refused:
        bounded(b'{"n": 3, "prompt": ["a", "b", "c"]}', 8)
    assert (refused.value.status, refused.value.param) == (400, "n")
    assert "9 sequences" in refused.value.message and "8" in refused.value.message


def test_a_bound_above_what_is_counted_otherwise_is_kept() -> None:
    body = json.dumps({"input": ["a"] * 5000}).encode()
    assert bounded(body, 5000) == 5000
    with pytest.raises(ApiError):
        bounded(body, 4999)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/score", {"text_1": "a", "text_2": ["b"] * 9}, "text_2"),
        ("/v1/score", {"queries": "a", "documents": [{"content": []}] * 9}, "documents"),
        ("/v2/rerank", {"query": "a", "documents": ["b"] * 9, "n": 5}, "documents"),
        ("/v2/embed", {"inputs": [{"content": []}] * 9}, "inputs"),
        ("/v2/embed", {"texts": ["a"] * 9}, "texts"),
        ("/generative_scoring", {"query": "a", "items": [[1], [2]] * 4 + [[3]]}, "items"),
    ],
)
def test_what_is_scored_and_ranked_counts(path: str, body: dict[str, Any], param: str) -> None:
    data = json.dumps(body).encode()
    assert sequences.count(data, path=path) == 9 and sequences.count(data, path="/v1/chat/completions") < 9
    with pytest.raises(ApiError) as refused:
        bounded(data, 8, path)
    assert (refused.value.status, refused.value.param) == (400, param)


@pytest.mark.parametrize("body", [b"{}", b"{", b'{"documents": "a", "text_2": {}}', b'{"documents": []}'])
def test_what_is_not_a_list_is_one(body: bytes) -> None:
    assert sequences.count(body, path="/rerank") == 1
