"""What the simulated engine refuses: more than it holds, and requests that are wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from tests.unit.engine.simulation.replica import HELLO, Replica


async def test_beyond_places_and_queue_is_503(slow: Replica) -> None:
    body = {"prompt": "a", "max_tokens": 10_000}
    tasks = [asyncio.create_task(slow.post("/v1/completions", body)) for _ in range(3)]
    await slow.until(running=2, waiting=1)
    with pytest.raises(openai.InternalServerError) as caught:
        await slow.client.chat.completions.create(model="one", messages=HELLO, stream=True)
    assert caught.value.status_code == 503 and caught.value.code == "queue_full"
    too_many = await slow.post("/v1/completions", body | {"n": 4})
    assert too_many.status_code == 503, "each choice takes a place"
    for task in tasks:
        task.cancel()
    await slow.until(running=0)


BAD: list[tuple[str, Any, int, str | None]] = [
    ("chat/completions", b"{", 400, None),
    ("chat/completions", b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, None),
    ("chat/completions", b'{"a": ' + b"9" * 5000 + b"}", 400, None),
    ("chat/completions", b'{"a": "\xff"}', 400, None),
    ("chat/completions", [], 400, None),
    ("chat/completions", {}, 400, "messages"),
    ("chat/completions", {"messages": []}, 400, "messages"),
    ("chat/completions", {"messages": ["hi"]}, 400, "messages[0]"),
    ("chat/completions", {"messages": HELLO, "model": "two"}, 404, "model"),
    ("chat/completions", {"messages": HELLO, "model": ["one"]}, 404, "model"),
    (
        "chat/completions",
        {"messages": [{"role": "user", "content": [{"type": {"a": 1}, "text": "a"}]}]},
        400,
        "messages[0].content[0].type",
    ),
    ("chat/completions", {"messages": HELLO, "max_tokens": 0}, 400, "max_tokens"),
    ("chat/completions", {"messages": HELLO, "n": "2"}, 400, "n"),
    ("chat/completions", {"messages": HELLO, "stream": "banana"}, 400, "stream"),
    ("chat/completions/batch", {"messages": HELLO}, 400, "messages"),
    ("chat/completions/batch", {"messages": []}, 400, "messages"),
    ("chat/completions", {"messages": HELLO, "max_tokens": 32_768}, 400, None),
    ("chat/completions", {"messages": HELLO, "response_format": {"type": "json_object"}}, 400, "response_format"),
    ("chat/completions", {"messages": HELLO, "tool_choice": "required"}, 400, "tool_choice"),
    ("messages", {"messages": HELLO, "max_tokens": 1, "tool_choice": {"type": "any"}}, 400, "tool_choice"),
    ("responses", {"input": "a", "text": {"format": {"type": "json_schema"}}}, 400, "text"),
    ("completions", {"prompt": "a", "structured_outputs": {"regex": "a"}}, 400, "structured_outputs"),
    ("completions", {"prompt": "a" * 4 * 32_768}, 400, None),
    ("completions", {}, 400, "prompt"),
    ("responses", {}, 400, "input"),
    ("messages", {}, 400, "messages"),
    ("embeddings", {"input": []}, 400, "input"),
    ("embeddings", {"input": "a" * 4 * 40_000}, 400, "input"),
    ("nothing", {}, 404, None),
]


@pytest.mark.parametrize(("path", "body", "status", "param"), BAD)
async def test_what_is_wrong_is_said_in_the_routes_schema(
    replica: Replica, path: str, body: Any, status: int, param: str | None
) -> None:
    answer = await replica.post(f"/v1/{path}", body)
    assert answer.status_code == status
    error = answer.json()["error"]
    if path == "messages":
        assert set(error) == {"message", "type"} and param in error["message"]
    else:
        assert set(error) == {"message", "type", "param", "code"} and error["message"]
        assert error["param"] == param
    assert replica.engine.load().running == 0


async def test_wrong_method_is_405(replica: Replica) -> None:
    answer = await replica.get("/v1/chat/completions")
    assert answer.status_code == 405 and answer.json()["error"]["message"]
