"""Clients before a server that answers, breaks off, counts wrongly or is not there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from loadtests.faults import clients
from loadtests.faults.clients import Clients, LoadPlan, Told

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PLAN = LoadPlan("m", streams=1, tokens=3, rate=1.0)


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def streamed(texts: int, *, counted: int = 3, done: bool = True, cut: bool = False) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number in range(texts):
            reason = "length" if number == texts - 1 else None
            await response.write(event(choices=[{"text": "a", "finish_reason": reason}]))
        if cut:
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(event(choices=[], usage={"prompt_tokens": 1, "completion_tokens": counted}))
        await response.write(b"data: [DONE]\n\n" if done else b"")
        return response

    return answer


def refusing(status: int) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    return answer


async def hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def ask(handler: Handler) -> Told:
    app = web.Application()
    app.router.add_post("/v1/completions", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    one = Clients(f"http://127.0.0.1:{port}", PLAN)
    try:
        async with aiohttp.ClientSession() as http:
            return await asyncio.wait_for(one._ask(http, {"prompt": "a", "max_tokens": 3}, 0), 20)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("handler", "outcome", "reason"),
    [
        (streamed(3), "whole", ""),
        (streamed(3, counted=4), "lost", "4 tokens of 3"),
        (streamed(3, done=False), "lost", "truncated: no [DONE]"),
        (streamed(2, cut=True), "lost", "the connection was closed"),
        (refusing(503), "refused", "status 503"),
        (refusing(500), "lost", "status 500"),
    ],
)
async def test_what_becomes_of_a_stream(handler: Handler, outcome: str, reason: str) -> None:
    told = await ask(handler)
    assert (told.outcome, told.reason, told.sent_again) == (outcome, reason, 0)


async def test_what_had_no_answer_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PAUSE_S", 0.0)
    told = await ask(hang_up)
    assert (told.outcome, told.sent_again) == ("lost", clients.MOST_AGAIN)
