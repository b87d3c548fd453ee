"""Bodies that cannot fit in a context are refused unread."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from serve_app.engine.bounds import MOST_BESIDE_BYTES, Bounds
from serve_app.engine.context import AT_CUT, PIECE, Context, reach, size

CONTEXT = Context(tokens=10_000, longest=20)
"""200,000 bytes."""
LONG = "x" * 200_001
TEXT = {"type": "text", "text": "a"}


async def answer(body: bytes, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    async def engine(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        assert await request.body() == body
        await Response(b"{}")(scope, receive, send)

    transport = httpx.ASGITransport(Bounds(engine, CONTEXT))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.post("/tokenize", content=body, headers=headers)
    return response.status_code, response.json()


@pytest.mark.parametrize(
    ("body", "param", "number"),
    [
        ({"prompt": LONG}, "prompt", "200001"),
        ({"input": LONG}, "input", "200001"),
        ({"prompt": "é" * 100_001}, "prompt", "100001"),
        ({"prompt": LONG, "temperature": float("nan"), "user": "\ud800"}, "prompt", "200001"),
        ({"tokens": [12345] * 10_001}, "tokens", "10001"),
        ({"prompt": [12345] * 10_001}, "prompt", "10001"),
        ({"prompt": [12345] * 80_001, "truncate_prompt_tokens": 5}, "prompt", "80001"),
        ({"input": [[12345] * 20_001, [1]]}, "input", "20002"),
        ({"messages": [{"role": "user", "content": ""}] * 10_001}, "messages", "10000"),
        ({"messages": [{"role": "user", "content": [TEXT] * 10_000}]}, "messages", "10000"),
        ({"input": [{"role": "user", "content": [TEXT] * 6000}] * 2}, "input", "10000"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_cannot_fit_is_400_with_both_numbers(body: dict[str, Any], param: str, number: str) -> None:
    status, said = await answer(json.dumps(body).encode())
    assert status == 400 and said["error"]["param"] == param and said["error"]["code"] == "context_length_exceeded"
    assert number in said["error"]["message"] and "10000" in said["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": LONG[:-1]},
        {"prompt": "é" * 100_000},
        {"prompt": LONG, "truncate_prompt_tokens": 5},
        {"prompt": [12345] * 10_000},
        {"prompt": [12345] * 80_000, "truncate_prompt_tokens": -1},
        {"input": [[12345] * 10_000] * 3},
        {"prompt": ["1, 2, 3, " * 2000] * 10},
        {"messages": [{"role": "user", "content": "{" * 190_000}]},
        {"messages": [{"role": "assistant", "content": LONG}, {"role": "user", "content": " " * 300_000}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a" * 10**6}}]}]},
        {"messages": "x" * 70_000, "n": 2},
        {"prompt": {"a": "x" * 70_000}},
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_may_fit_reaches_the_engine_as_it_came(body: dict[str, Any]) -> None:
    assert await answer(json.dumps(body).encode()) == (200, {})


async def test_what_is_small_or_not_json_is_the_engines_to_judge() -> None:
    assert await answer(b'{"prompt": "a"}') == (200, {})
    assert await answer(b'{"prompt": ' + b"[" * 100_000) == (200, {})


async def test_what_is_beside_the_prompt_is_bounded() -> None:
    beside = [0] * (MOST_BESIDE_BYTES // 3)
    status, said = await answer(json.dumps({"prompt": "a", "foo": beside}).encode())
    assert status == 400 and str(MOST_BESIDE_BYTES) in said["error"]["message"]


def test_how_far_so_many_tokens_reach_is_found_without_counting_the_rest() -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return len(text) // 4

    text = "".join(map(str, range(10**6)))
    assert reach(count, text, 8000) == 2 * PIECE and "".join(counted) == text[: 2 * PIECE]
    counted.clear()
    assert reach(count, text, 8000, backwards=True) == 2 * PIECE
    assert counted == [text[-PIECE:], text[-2 * PIECE : -PIECE]]
    assert reach(count, text[:PIECE], PIECE // 4) is None
    assert reach(count, text[:PIECE], PIECE // 4 - AT_CUT) == PIECE


def test_sizes_are_bytes() -> None:
    assert [size(text) for text in ("ab", "é", "日本", "\ud800")] == [2, 2, 6, 3]
