"""Serve's own reading of requests, bounded."""

from __future__ import annotations

import asyncio

import pytest
from ray.serve._private.direct_ingress_http_util import ASGIDIReceiveProxy
from starlette.types import Message

from serve_app.compat import body_queue
from serve_app.compat.body_queue import MESSAGES, bound_queues


async def test_a_body_comes_no_faster_than_it_is_read_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ASGIDIReceiveProxy, "queue", ASGIDIReceiveProxy.queue)
    monkeypatch.setattr(body_queue, "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD", False)
    bound_queues()
    pieces = [{"type": "http.request", "body": bytes([n]), "more_body": n < 99} for n in range(100)]
    coming: list[Message] = [*pieces, {"type": "http.disconnect"}]
    received = 0

    async def receive() -> Message:
        nonlocal received
        received += 1
        return coming[received - 1]

    bounded = ASGIDIReceiveProxy({"type": "http"}, receive, asyncio.get_running_loop())
    reading = bounded.fetch_until_disconnect_task()
    for taken in range(100):
        await asyncio.sleep(0)
        assert received <= taken + MESSAGES + 2
        assert await bounded() == pieces[taken]
    assert [(await bounded())["type"] for _ in range(3)] == ["http.disconnect"] * 3
    await reading
