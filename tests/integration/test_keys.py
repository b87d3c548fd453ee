"""Two ingress processes that share the limits of keys, with a simulated engine behind them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml
from playwright.sync_api import expect

from tests.support.batches import contents, create, end, lines
from tests.support.browser import browser_page
from tests.support.service import Service, replicas, running_service

URL = "/v1/completions"
LIMITS = httpx.Limits(max_connections=None)
KEYS: list[dict[str, Any]] = [
    {"name": "sixty", "requests_per_minute": 60},
    {"name": "two-at-once", "parallel": 2},
    {"name": "brief", "max_output_tokens": 3, "max_prompt_tokens": 20},
    {"name": "daily", "tokens_per_day": 1000},
    {"name": "counted"},
    {"name": "batches", "routes": ["/v1/files", "/v1/batches"], "priority": "batch", "tokens_per_day": 100_000},
    {"name": "admin", "admin": True},
    {"name": "flood"},
    {"name": "trickle"},
    {"name": "heavy", "weight": 3},
]
"""Each key is its own name."""
MODEL = {
    "id": "m",
    "engine": "simulated",
    "autoscaling": {"min_replicas": 2, "max_replicas": 2},
    "cpus": 0.1,
    "max_running": 16,
    "max_queued": 16,
    "simulated": {"step_base_ms": 1},
}
"""What is asked for more replicas stands on a page, and starts none."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    ingress = {
        "replicas": 2,
        "cpus": 0.1,
        "keys": [{**key, "key": key["name"]} for key in KEYS],
        "usage": {"directory": str(folder / "usage"), "audit": True},
    }
    args = {"models": [MODEL], "ingress": ingress, "batch": {"directory": str(folder / "batch"), "cpus": 0.1}}
    application = {"name": "lfm2", "route_prefix": "/", "import_path": "serve_app.app:build", "args": args}
    (config := folder / "service.yaml").write_text(yaml.safe_dump({"applications": [application]}))
    with running_service(config, start_timeout_s=120) as started:
        yield started


def completion(tokens: int, **more: object) -> dict[str, object]:
    return {"model": "m", "prompt": "one two three", "max_tokens": tokens, "ignore_eos": True, **more}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def lines_of(folder: Path, key: str) -> list[dict[str, Any]]:
    """A key's in the audit log."""
    texts = [path.read_text() for path in folder.glob("usage/audit/*.jsonl")]
    found = [json.loads(line) for text in texts for line in text.splitlines()]
    return [line for line in found if line["key"] == key]


async def asked(service: Service, key: str, count: int, body: dict[str, object]) -> list[httpx.Response]:
    """So many requests at the same time, each over a connection of its own."""

    async def one() -> httpx.Response:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as http:
            return await http.post(URL, json=body, headers=bearer(key))

    return await asyncio.gather(*(one() for _ in range(count)))


async def test_two_processes_share_a_limit_of_sixty_a_minute(service: Service, folder: Path) -> None:
    began = time.monotonic()
    answers = [one for _ in range(10) for one in await asked(service, "sixty", 20, completion(1))]
    statuses = Counter(answer.status_code for answer in answers)
    # Of a minute that is over a second's room comes back each second.
    most = 66 + (time.monotonic() - began)
    assert statuses.keys() == {200, 429} and 54 <= statuses[200] <= most, statuses
    refused = [answer for answer in answers if answer.status_code == 429]
    assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in refused)
    assert {answer.headers["x-ratelimit-limit-requests"] for answer in answers} == {"60"}
    assert refused[0].json()["error"]["code"] == "rate_limit_exceeded"
    async with asyncio.timeout(10):
        while len(audited := lines_of(folder, "sixty")) < len(answers):
            await asyncio.sleep(0.1)
    told = {(answer.headers["x-request-id"], answer.status_code) for answer in answers}
    assert {(line["request_id"], line["status"]) for line in audited} == told and len(told) == len(audited) == 200
    assert {line["output_tokens"] for line in audited} == {0, 1}


def needed(service: Service) -> float:
    """Replicas that the demand on the model asks for."""
    told = httpx.get(f"{service.url}/autoscaling", headers=bearer("admin")).json()["models"]["m"]
    return float(max(told["needs"].values(), default=0))


async def test_what_a_key_asks_over_its_limit_asks_for_no_replicas(service: Service) -> None:
    most, statuses = 0.0, Counter[int]()
    async with httpx.AsyncClient(base_url=service.url, timeout=60, limits=LIMITS, headers=bearer("sixty")) as http:
        for _ in range(6):
            answers = await asyncio.gather(*(http.post(URL, json=completion(200)) for _ in range(60)))
            statuses.update(answer.status_code for answer in answers)
            most = max(most, await asyncio.to_thread(needed, service))
    assert statuses[429] > 200 and most < 2, statuses


class Crowd:
    """Clients that ask at the same time, each request over a connection of its own."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self.answered: list[str] = []
        """Whose requests, in order."""

    async def one(self, key: str, tokens: int) -> int:
        """How many requests that were there before it, or came after it, were answered before it was."""
        before = len(self.answered)
        answer = await self._http.post(URL, json=completion(tokens), headers=bearer(key))
        assert answer.status_code == 200, answer.text
        self.answered.append(key)
        return len(self.answered) - before - 1

    async def until(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.answered) < count:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def crowd(service: Service) -> AsyncIterator[Crowd]:
    async with httpx.AsyncClient(base_url=service.url, timeout=60, limits=LIMITS) as http:
        yield Crowd(http)


async def test_a_flood_delays_another_key_by_its_share_and_itself_by_all_of_it(service: Service) -> None:
    async with crowd(service) as clients:
        # So long that all have come before a tenth is answered, and of lengths that do not end together.
        flood = [asyncio.create_task(clients.one("flood", 300 + 37 * number % 600)) for number in range(160)]
        await clients.until(16)
        delays = sorted([await clients.one("trickle", 1) for _ in range(5)])
        wanted = await asyncio.to_thread(needed, service)
        own = await clients.one("flood", 1)
        await asyncio.gather(*flood)
    # A process may stand still for a moment on a busy machine.
    assert delays[2] < 20 and own > 40, (delays, own)
    assert wanted > 2, "the flood is within its limits, and asks for replicas"


async def test_keys_are_served_by_weight(service: Service) -> None:
    async with crowd(service) as clients:
        # Processes take connections in turn, and each shares out what it has: both keys come to both.
        keys = ["heavy", "flood", "flood", "heavy"] * 35
        both = [asyncio.create_task(clients.one(key, 700)) for key in keys]
        await clients.until(100)
        # The first 64 may have found room.
        got = Counter(clients.answered[64:100])
        await asyncio.gather(*both)
    assert got["heavy"] > 1.5 * got["flood"], got


async def test_openais_own_retries_end_served_where_more_come_than_may_be_open(service: Service) -> None:
    async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="two-at-once", max_retries=8) as client:
        body = {"model": "m", "prompt": "a", "max_tokens": 100, "extra_body": {"ignore_eos": True}}
        answers = await asyncio.gather(*(client.completions.with_raw_response.create(**body) for _ in range(6)))
    assert len(answers) == 6 and 6 <= sum(1 + answer.retries_taken for answer in answers) <= 30


async def test_a_key_bounds_the_tokens_of_a_prompt_and_of_an_answer(service: Service) -> None:
    (answer,) = await asked(service, "brief", 1, completion(50))
    assert answer.json()["usage"]["completion_tokens"] == 3
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    (refused,) = await asked(service, "brief", 1, completion(1, prompt="word " * 100))
    assert refused.status_code == 400 and "max_prompt_tokens" in refused.json()["error"]["message"]


async def test_tokens_of_a_day_are_those_that_the_engines_made(service: Service) -> None:
    made, answer = 0, httpx.Response(200)
    for _ in range(300):
        (answer,) = await asked(service, "daily", 1, completion(60))
        if answer.headers.get("x-should-retry") == "false":
            break
        if answer.status_code == 200:
            made += answer.json()["usage"]["total_tokens"]
        await asyncio.sleep(0.1)
    assert answer.status_code == 429 and "tokens_per_day: 1000" in answer.json()["error"]["message"]
    assert 1000 <= made <= 1200 and answer.headers["x-ratelimit-remaining-tokens"] == "0"


def used(service: Service, key: str) -> dict[str, int]:
    """Of today, as the key itself is told."""
    answer = httpx.get(f"{service.url}/v1/usage", headers=bearer(key)).json()["data"]
    assert {one["key"] for one in answer} <= {key}
    sums: Counter[str] = Counter()
    for one in answer:
        sums.update({name: value for name, value in one.items() if isinstance(value, int)})
    return dict(sums)


async def until_used(service: Service, key: str, expected: dict[str, int]) -> None:
    async with asyncio.timeout(20):
        while used(service, key) != expected:
            await asyncio.sleep(0.2)


def test_batches_belong_to_the_key_that_made_them_and_count_for_it(service: Service) -> None:
    mine, other = api(service, "batches"), api(service, "counted")
    batch = create(mine, lines([{"model": "m", "prompt": "a b c", "max_tokens": 9, "ignore_eos": True}] * 20, URL), URL)
    with pytest.raises(openai.NotFoundError):
        other.batches.retrieve(batch.id)
    batch = end(mine, batch)
    assert (batch.status, batch.request_counts.completed) == ("completed", 20)
    with pytest.raises(openai.NotFoundError):
        other.files.content(batch.output_file_id)
    assert len(contents(mine, batch.output_file_id)) == 20 and not other.files.list().data
    assert batch.id in {one.id for one in api(service, "admin").batches.list()}
    begun = time.monotonic()
    while not (told := used(service, "batches")) or told["output_tokens"] < 180:
        assert time.monotonic() < begun + 20, told
        time.sleep(0.2)
    assert told["requests"] == 20 and told["output_tokens"] == batch.usage.output_tokens == 180
    assert told["prompt_tokens"] == batch.usage.input_tokens


def api(service: Service, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key=key, max_retries=5, timeout=30)


async def test_accounts_are_exact_and_outlive_a_killed_process_that_wrote_them(service: Service) -> None:
    (answer,) = await asked(service, "counted", 1, completion(30))
    usage = answer.json()["usage"]
    prompt = usage["prompt_tokens"]
    streamed = completion(20, stream=True)
    (answer,) = await asked(service, "counted", 1, streamed)
    pieces = answer.text.count('"text"')
    expected = {
        "requests": 2,
        "prompt_tokens": 2 * prompt,
        "cached_tokens": 0,
        "output_tokens": usage["completion_tokens"] + pieces,
    }
    assert expected["output_tokens"] == 50
    await until_used(service, "counted", expected)
    processes = replicas(service, "ingress")
    assert len(processes) == 2
    for process in processes:
        os.kill(process, signal.SIGKILL)
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
                if used(service, "counted") == expected:
                    break
            await asyncio.sleep(0.5)
    (left,) = await asked(service, "daily", 1, completion(1))
    assert left.status_code == 429, "a process that starts begins no new day"
    text = httpx.get(f"{service.url}/metrics", headers=bearer("admin")).text
    assert 'serve_app_tokens_total{key="counted",kind="output",model="m"' in text
    assert 'serve_app_requests_total{key="daily",' in text


def test_the_console_asks_for_an_admins_key(service: Service) -> None:
    with browser_page() as (page, _):
        page.goto(f"{service.url}/console")
        for key in ("nobodys", "counted", "admin"):
            page.get_by_label("API key").fill(key)
            page.get_by_role("button", name="Open").click()
            if key != "admin":
                expect(page.locator("#login .problem")).not_to_be_empty()
        expect(page.get_by_label("Model")).to_have_value("m")
        page.get_by_label("Message").fill("Hello")
        page.keyboard.press("Enter")
        expect(page.locator(".turn.assistant footer")).to_contain_text("replica")
        page.get_by_role("link", name="Usage").click()
        expect(page.locator(".totals")).to_contain_text("requests")
        page.get_by_role("button", name="Key").click()
        expect(page.get_by_label("API key")).to_be_visible()
