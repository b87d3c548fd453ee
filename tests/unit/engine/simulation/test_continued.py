"""A simulated engine goes on with what another has begun, on every route and from every event."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.continued import Asking, tried
from tests.unit.engine.simulation.replica import HELLO, Replica

USAGE = {"stream_options": {"include_usage": True}}
ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO, "max_tokens": 9, **USAGE},
    "/v1/completions": {"prompt": "Hello", "max_tokens": 9, **USAGE},
    "/v1/responses": {"input": "Hello", "max_output_tokens": 9},
    "/v1/messages": {"messages": HELLO, "max_tokens": 9},
}


@pytest.mark.parametrize("path", ASKED)
async def test_wherever_it_was_cut_the_answer_is_the_same(replica: Replica, path: str) -> None:
    transport = httpx.ASGITransport(replica.engine.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
        told = await tried(Asking(client, path, {"model": "one", "stream": True, **ASKED[path]}))
    assert told["possible"] and told["events"] >= 9 and not told["others"], told


async def test_several_answers_at_once_are_not_continued(replica: Replica) -> None:
    transport = httpx.ASGITransport(replica.engine.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
        body = {"model": "one", "prompt": "a", "n": 2, "stream": True, "max_tokens": 3}
        told = await tried(Asking(client, "/v1/completions", body))
    assert not told["possible"] and "[DONE]" in told["text"]
