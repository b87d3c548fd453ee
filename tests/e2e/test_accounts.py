"""What a replica says it has made for a key is what vLLM has made and what its answers say."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import TEXT
from tests.support.service import Service

PROMPT = "Tell me everything about this service, from its beginning to its end, and leave nothing out of it."


ENGINES = {
    "vllm:prompt_tokens_total": "prompt",
    "vllm:prompt_tokens_cached_total": "cached",
    "vllm:generation_tokens_total": "output",
}


def made(http: httpx.Client) -> tuple[Counter[str], Counter[str]]:
    """Tokens of the model so far, by kind: of accounts, and of vLLM's own metrics."""
    ours: Counter[str] = Counter()
    engines: Counter[str] = Counter()
    for family in text_string_to_metric_families(http.get("/metrics").text):
        for sample in family.samples:
            if sample.name == "serve_app_tokens_total" and sample.labels["model"] == TEXT:
                ours[sample.labels["kind"]] += int(sample.value)
            elif sample.name in ENGINES and sample.labels["model_name"] == TEXT:
                engines[ENGINES[sample.name]] += int(sample.value)
    return ours, engines


CHAT = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 20, "temperature": 1}
STREAMED = {"stream": True, "stream_options": {"include_usage": True}}
ASKED: list[tuple[str, dict[str, object]]] = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {**CHAT, "n": 2}),
    ("/v1/chat/completions", {**CHAT, **STREAMED, "n": 3}),
    ("/v1/completions", {"prompt": [PROMPT, "a b c"], "max_tokens": 9, "stop": ["e"]}),
    ("/v1/completions", {"prompt": PROMPT, "max_tokens": 9, **STREAMED}),
    ("/v1/responses", {"input": PROMPT, "max_output_tokens": 12}),
    ("/v1/messages", CHAT),
]


def usage(answer: str) -> tuple[int, int]:
    """Tokens of prompts and of answers, from what a client gets."""
    last = answer.strip().removesuffix("data: [DONE]").strip().splitlines()[-1].removeprefix("data: ")
    told = json.loads(last)["usage"]
    return told.get("prompt_tokens", told.get("input_tokens")), told.get("completion_tokens", told.get("output_tokens"))


def test_tokens_are_those_of_the_answers_streamed_or_not(http: httpx.Client) -> None:
    before, _ = made(http)
    told = [usage(http.post(route, json={"model": TEXT, **body}).text) for route, body in ASKED]
    found = made(http)[0] - before
    assert (found["prompt"], found["output"]) == tuple(map(sum, zip(*told, strict=True)))


async def test_an_answer_that_is_cut_off_counts_what_was_made_of_it(http: httpx.Client, service: Service) -> None:
    before = made(http)
    body = {"model": TEXT, "prompt": PROMPT * 20, "max_tokens": 400, "ignore_eos": True, "stream": True}
    for _ in range(3):
        # Wherever they go, the two replicas have the prompt cached before the last of all.
        http.post("/v1/completions", json={**body, "max_tokens": 1})
    async with (
        httpx.AsyncClient(base_url=service.url, timeout=60) as leaving,
        leaving.stream("POST", "/v1/completions", json=body) as answer,
    ):
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                break
    deadline = time.monotonic() + 10
    last = before
    while (now := made(http)) != last and time.monotonic() < deadline:
        last = now
        await asyncio.sleep(1)
    ours, engines = (after - earlier for after, earlier in zip(last, before, strict=True))
    assert ours == engines and 1 < ours["output"] < 401 and 0 < ours["cached"] < ours["prompt"]
