"""The path with simulated engines: balancing, limits, failures, drains, scaling."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.service import Service, gauge

LOADS = 'serve_app_adapter_loads_total{adapter="tuned",model="trio"'
HOME = 'serve_app_affinity_picks_total{model="pair",place="home"'


@pytest.fixture
async def http(simulated: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=simulated.url, timeout=90, limits=httpx.Limits(max_connections=None)
    ) as client:
        yield client


def completion(model: str, tokens: int = 8, prompt: str = "a", **more: object) -> dict[str, object]:
    return {"model": model, "prompt": prompt, "max_tokens": tokens, **more}


async def post(http: httpx.AsyncClient, model: str, tokens: int = 8, **more: object) -> httpx.Response:
    return await http.post("/v1/completions", json=completion(model, tokens, **more))


async def ready(http: httpx.AsyncClient, model: str) -> int:
    return (await http.get("/ready")).json()["models"][model]["ready"]


async def autoscaling(http: httpx.AsyncClient, model: str) -> dict[str, Any]:
    return dict((await http.get("/autoscaling")).json()["models"][model])


async def until(condition, timeout_s: float = 60) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.2)


async def sampled(http: httpx.AsyncClient, begins: str) -> float:
    """The sum of the samples on /metrics that begin so."""
    lines = (await http.get("/metrics")).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(begins))


async def generated(simulated: Service, model: str) -> dict[str, float]:
    return await asyncio.to_thread(gauge, simulated.url, "vllm:generation_tokens_total", model)


async def test_models_say_that_they_are_simulated(http: httpx.AsyncClient) -> None:
    models = (await http.get("/v1/models")).json()["data"]
    assert {model["id"] for model in models} == {"pair", "trio", "tuned", "other", "narrow", "scaled", "sleepy"}
    assert all(model["simulated"] for model in models)


async def test_a_long_prefix_and_a_session_stay_with_one_replica(http: httpx.AsyncClient, simulated: Service) -> None:
    before, picked = await generated(simulated, "pair"), await sampled(http, HOME)
    prefix = "Answer in one word. " * 60
    for number in range(8):
        assert (await post(http, "pair", 5, prompt=f"{prefix} {number}")).status_code == 200
    between = await generated(simulated, "pair")
    assert sorted(between[replica] - before.get(replica, 0) for replica in between) == [0, 40]
    for number in range(8):
        body = completion("pair", 5, prompt=str(number))
        assert (await http.post("/v1/completions", json=body, headers={"x-session-id": "me"})).status_code == 200
    after = await generated(simulated, "pair")
    assert sorted(after[replica] - between[replica] for replica in after) == [0, 40]
    assert await sampled(http, HOME) == picked + 16


async def test_an_adapter_stays_with_one_replica_and_is_seen_there(http: httpx.AsyncClient) -> None:
    loads = await sampled(http, LOADS)
    answers = [await post(http, "tuned", 2) for _ in range(6)]
    assert all(answer.status_code == 200 and answer.json()["model"] == "tuned" for answer in answers)
    assert len({answer.headers["x-replica"] for answer in answers}) == 1
    assert await sampled(http, LOADS) - loads <= 1, "replicas of others have loaded it"

    async def announced() -> bool:
        told = (await autoscaling(http, "trio"))["adapters"].get("tuned")
        return told is not None and told["replicas"] >= 1 and told["requests"] == 0

    await until(announced, 10)


async def test_load_is_shared_evenly(http: httpx.AsyncClient, simulated: Service) -> None:
    before = await generated(simulated, "pair")
    answers = await asyncio.gather(*(post(http, "pair", 20) for _ in range(16)))
    assert {answer.status_code for answer in answers} == {200}
    after = await generated(simulated, "pair")
    shares = sorted(after[replica] - before.get(replica, 0) for replica in after)
    assert sum(shares) == 16 * 20 and shares[0] >= 5 * 20


async def test_beyond_capacity_and_queue_is_429_with_retry_after(http: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(post(http, "narrow", 200) for _ in range(12)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1 and refused.json()["error"]["code"] == "overloaded"
    assert (await post(http, "narrow")).status_code == 200


async def test_a_request_of_many_counts_as_many_and_is_served_beside_others(http: httpx.AsyncClient) -> None:
    assert (await post(http, "pair", n=5)).status_code == 400, "half of max_running is 4"
    many = [asyncio.create_task(post(http, "pair", 300, n=4)) for _ in range(12)]
    chats = [asyncio.create_task(post(http, "pair", 5)) for _ in range(4)]
    answers = await asyncio.gather(*many)
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}, "both replicas hold 32 sequences, 4 more wait"
    assert all(len(answer.json()["choices"]) == 4 for answer in answers if answer.status_code == 200)
    assert {(await chat).status_code for chat in chats} <= {200, 429}


async def test_a_client_that_leaves_frees_its_slot(http: httpx.AsyncClient, simulated: Service) -> None:
    body = completion("narrow", 2000, stream=True)
    async with http.stream("POST", "/v1/completions", json=body) as response:
        pieces = response.aiter_raw()
        await anext(pieces)
    async with asyncio.timeout(1):
        while sum((await asyncio.to_thread(gauge, simulated.url, "vllm:num_requests_running", "narrow")).values()):
            await asyncio.sleep(0.05)


async def test_a_dying_engine_is_replaced_and_the_others_carry_its_requests(http: httpx.AsyncClient) -> None:
    body = completion("trio", 50, prompt="SIMULATE:die", stream=True)

    async def fatal() -> bytes:
        async with http.stream("POST", "/v1/completions", json=body) as response:
            return b"".join([chunk async for chunk in response.aiter_raw()])

    async with asyncio.TaskGroup() as group:
        cut = group.create_task(fatal())
        others = [group.create_task(post(http, "trio", 100)) for _ in range(8)]
    assert b'"error"' in cut.result().split(b"\n\n")[-2] and b"[DONE]" not in cut.result()
    assert [other.result().status_code for other in others] == [200] * 8
    for _ in range(20):
        assert (await post(http, "trio")).status_code == 200
    await until(lambda: _is(ready(http, "trio"), 3))


async def test_scaling_up_and_down_loses_no_request(http: httpx.AsyncClient) -> None:
    stop = time.monotonic() + 60
    failures: list[httpx.Response] = []

    async def client(streams_until) -> None:
        while not streams_until():
            answer = await post(http, "scaled", 40)
            if answer.status_code not in (200, 429):
                failures.append(answer)

    scaled = asyncio.Event()
    load = [asyncio.create_task(client(scaled.is_set)) for _ in range(12)]
    await until(lambda: _is(ready(http, "scaled"), 3))
    scaled.set()
    await asyncio.gather(*load)

    told = await autoscaling(http, "scaled")
    assert told["bounds"] == {"min": 1, "max": 3} and told["decision"] == 3
    assert told["inputs"]["running"] > 0 and told["inputs"]["output_tokens_per_s"] > 0
    assert told["changes"][0]["to"] == 3 and "requests" in told["changes"][0]["reason"]

    down = asyncio.Event()
    trickle = asyncio.create_task(client(down.is_set))
    await until(lambda: _is(ready(http, "scaled"), 1), stop + 60 - time.monotonic())
    down.set()
    await trickle
    assert not failures
    told = await autoscaling(http, "scaled")
    assert (told["decision"], told["changes"][0]["to"]) == (1, 1)


async def test_a_model_at_zero_wakes_for_a_request_and_sleeps_again(http: httpx.AsyncClient) -> None:
    for _ in range(2):
        await until(lambda: _is(ready(http, "sleepy"), 0))
        answers = await asyncio.gather(*(post(http, "sleepy") for _ in range(4)))
        assert [answer.status_code for answer in answers] == [200] * 4
    changes = (await autoscaling(http, "sleepy"))["changes"]
    assert [change["to"] for change in changes[:3]] == [1, 0, 1]


async def test_a_model_with_a_fixed_number_of_replicas_says_so(http: httpx.AsyncClient) -> None:
    told = await autoscaling(http, "pair")
    assert not told["autoscaling"] and told["replicas"] == {"ready": 2, "target": 2}


async def _is(value, wanted: int) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return await value == wanted
    return False
