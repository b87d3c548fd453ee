"""How a simulated engine fails on demand."""

from __future__ import annotations

import asyncio

import httpx
import openai
import pytest

from tests.unit.engine.simulation.replica import Replica

BROKEN_OFF = (openai.APIConnectionError, httpx.RemoteProtocolError)
"""What a client makes of a body that ends too early, by its version."""


async def test_death_breaks_open_streams_off_and_is_for_good(slow: Replica) -> None:
    whole = asyncio.create_task(slow.post("/v1/completions", {"prompt": "a", "max_tokens": 10_000}))
    stream = await slow.client.completions.create(model="one", prompt="a", max_tokens=10_000, stream=True)
    assert (await anext(aiter(stream))).choices[0].text == "tok0"
    await slow.until(running=2)
    assert slow.engine.failure() is None
    await slow.post("/simulate/fail", {"mode": "die"})
    with pytest.raises(BROKEN_OFF):
        async for _ in stream:
            pass
    assert (await whole).status_code == 500
    assert slow.engine.failure() and slow.engine.load().running == 0
    await slow.post("/simulate/fail", {"mode": "ok"})
    assert (await slow.post("/v1/completions", {"prompt": "a"})).status_code == 500
    assert (await slow.get("/health")).status_code == 503


async def test_a_fatal_prompt_kills_the_engine_that_answers_it(replica: Replica) -> None:
    assert (await replica.post("/v1/completions", {"prompt": "SIMULATE:die", "max_tokens": 50})).status_code == 500
    assert replica.engine.failure()


async def test_a_fatal_prompt_breaks_its_stream_after_the_first_tokens(slow: Replica) -> None:
    stream = await slow.client.completions.create(model="one", prompt="SIMULATE:die", max_tokens=50, stream=True)
    heard = []
    with pytest.raises(BROKEN_OFF):
        async for chunk in stream:
            heard.append(chunk.choices[0].text)
    assert "".join(heard).startswith("tok0 tok1 tok2") and len(heard) < 50


async def test_refusing_until_ok(replica: Replica) -> None:
    await replica.post("/simulate/fail", {"mode": "refuse"})
    assert (await replica.post("/v1/completions", {"prompt": "a"})).status_code == 503
    assert (await replica.post("/tokenize", {"prompt": "a"})).status_code == 503
    await replica.post("/simulate/fail", {"mode": "ok"})
    assert (await replica.post("/v1/completions", {"prompt": "a"})).status_code == 200


async def test_fail_refuses_what_it_does_not_know(replica: Replica) -> None:
    for body in ({"mode": "sleep"}, {}, {"mode": "slow", "factor": 0}, {"mode": "slow", "factor": "x"}):
        assert (await replica.post("/simulate/fail", body)).status_code == 400
    assert (await replica.post("/simulate/fail", {"mode": "slow", "factor": 3})).status_code == 200
    assert (await replica.post("/v1/completions", {"prompt": "a", "max_tokens": 2})).status_code == 200
