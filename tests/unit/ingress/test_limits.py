"""Limits of a key at the ingress, as OpenAI's own client takes them; its waits pass in no time."""

from __future__ import annotations

import asyncio
import heapq
from typing import Any

import anyio
import httpx
import openai
import pytest
from starlette.responses import JSONResponse
from starlette.types import Receive, Send

from serve_app.accounts.limiter import Limiter
from serve_app.config.keys import KeyConfig
from serve_app.ingress.authentication import Authentication
from serve_app.ingress.body import BodyReader
from serve_app.ingress.keyring import Keyring
from serve_app.ingress.routes import IngressApp
from serve_app.routing.body import RequestBody
from serve_app.routing.metrics import Metrics

START = 20_000 * 86_400 + 43_230.0
"""Half a minute past it."""
COMPLETION = {"id": "a", "object": "text_completion", "created": 1, "model": "m", "choices": []}


class Time:
    """Goes on when everybody waits for it."""

    def __init__(self) -> None:
        self.now = START
        self._waiting: list[float] = []

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        heapq.heappush(self._waiting, until)
        while self.now < until:
            for _ in range(100):
                await asyncio.sleep(0)
            if self._waiting[0] == until:
                self.now = until
        heapq.heappop(self._waiting)


class Answering:
    """In place of a router."""

    metrics = Metrics()

    async def routed(self, scope: Any, body: RequestBody, owner: KeyConfig) -> Any:
        return scope

    async def answer(self, scope: Any, send: Send, receive: Receive) -> None:
        await JSONResponse(COMPLETION)(scope, receive, send)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(anyio, "sleep", time.sleep)
    return time


def client(time: Time, **limits: Any) -> openai.AsyncOpenAI:
    key = KeyConfig(name="a", key="k", **limits)
    limiter = Limiter([key], lambda: 1, lambda: time.now)
    router: Any = Answering()
    app = IngressApp(router, Authentication(Keyring([], [key])), [], BodyReader(2**20, 2**24), limiter)
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app))
    return openai.AsyncOpenAI(base_url="http://a/v1", api_key="k", http_client=http)


async def test_a_client_over_its_limit_ends_served_without_a_storm(time: Time) -> None:
    async with client(time, requests_per_minute=60) as api:
        create = api.completions.with_raw_response.create
        answers = await asyncio.gather(*(create(model="m", prompt="a") for _ in range(85)))
    assert sum(answer.retries_taken for answer in answers) == 25, "60 at once, and the others with their first retry"
    assert time.now - START == pytest.approx(55, abs=2), "one a second, from the next minute on"
    refused = Answering.metrics.requests.labels("", "/v1/completions", "429", "a")
    assert next(iter(refused.collect())).samples[0].value == 25
    assert answers[0].headers["x-ratelimit-limit-requests"] == "60"


async def test_a_client_that_is_at_the_limit_of_a_day_does_not_try_again(time: Time) -> None:
    async with client(time, requests_per_day=1) as api:
        await api.completions.create(model="m", prompt="a")
        with pytest.raises(openai.RateLimitError, match="requests_per_day: 1") as refused:
            await api.completions.create(model="m", prompt="a")
    assert time.now == START and refused.value.response.headers["retry-after"] == "43170"
