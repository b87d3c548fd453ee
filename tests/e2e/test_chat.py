"""Chat and completions through the official client, as a vLLM quick start does them."""

from __future__ import annotations

import asyncio
import json
import subprocess

import httpx
import openai
import pytest

from tests.e2e.conftest import TEXT
from tests.support.service import Service, gauge

QUESTION = [{"role": "user", "content": "How do I start the service?"}]


def test_answers_a_documented_question(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model=TEXT, messages=QUESTION)
    assert "make serve" in reply.choices[0].message.content
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_an_alias_serves_the_same_model(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="demo", messages=QUESTION)
    assert "make serve" in reply.choices[0].message.content


def test_a_system_prompt_and_an_earlier_turn(client: openai.OpenAI) -> None:
    messages = [{"role": "system", "content": "You are a helpful assistant."}, *QUESTION]
    first = client.chat.completions.create(model=TEXT, messages=messages).choices[0].message
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": "Who are you?"}]
    second = client.chat.completions.create(model=TEXT, messages=messages).choices[0].message
    assert "lfm2-demo" in second.content


def test_streamed_chat_is_the_same_answer_in_pieces(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=TEXT, messages=QUESTION, temperature=0)
    chunks = list(client.chat.completions.create(model=TEXT, messages=QUESTION, temperature=0, stream=True))
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len([piece for piece in pieces if piece]) > 1
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_usage_in_a_stream(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model=TEXT, messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0


def test_a_stream_is_byte_exact_server_sent_events(http: httpx.Client) -> None:
    body = {"model": TEXT, "messages": QUESTION, "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        raw = b"".join(response.iter_raw())
    events = raw.split(b"\n\n")
    assert events[-1] == b"" and events[-2] == b"data: [DONE]"
    assert all(json.loads(event.removeprefix(b"data: "))["object"] == "chat.completion.chunk" for event in events[:-2])


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.7},
        {"top_p": 0.5},
        {"max_tokens": 3},
        {"stop": ["make"]},
        {"extra_body": {"top_k": 5}},
        {"extra_body": {"min_p": 0.2}},
        {"extra_body": {"repetition_penalty": 1.1}},
        {"frequency_penalty": 0.1, "presence_penalty": 0.1},
    ],
    ids=lambda options: next(iter(options.get("extra_body", options))),
)
def test_sampling_options_are_accepted(client: openai.OpenAI, options: dict) -> None:
    reply = client.chat.completions.create(model=TEXT, messages=QUESTION, **options)
    content = reply.choices[0].message.content
    if "max_tokens" in options:
        assert reply.usage.completion_tokens == 3 and reply.choices[0].finish_reason == "length"
    if "stop" in options:
        assert "make" not in content and reply.choices[0].finish_reason == "stop"


def test_options_change_what_is_sampled(client: openai.OpenAI) -> None:
    def answers(**options: object) -> set[str]:
        reply = client.chat.completions.create(
            model=TEXT, messages=[{"role": "user", "content": "zq"}], n=8, max_tokens=12, **options
        )
        return {choice.message.content for choice in reply.choices}

    hot = {"temperature": 2.0, "top_p": 1.0}
    assert len(answers(**hot, extra_body={"min_p": 0.0, "ignore_eos": True})) > 1
    assert len(answers(**hot, extra_body={"top_k": 1})) == 1


def test_a_seed_repeats_a_sample(client: openai.OpenAI) -> None:
    def sample(seed: int) -> str:
        reply = client.chat.completions.create(
            model=TEXT,
            messages=[{"role": "user", "content": "zq"}],
            seed=seed,
            temperature=2.0,
            max_tokens=16,
            extra_body={"min_p": 0.0, "ignore_eos": True},
        )
        return reply.choices[0].message.content

    assert [sample(1) for _ in range(3)] == [sample(1)] * 3
    assert len({sample(seed) for seed in range(4)}) > 1


def test_a_seed_repeats_after_a_prompt_of_many_steps(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "zq " * 400}]
    options = {"seed": 3, "temperature": 2.0, "max_tokens": 16, "extra_body": {"min_p": 0.0, "ignore_eos": True}}
    answers = [client.chat.completions.create(model=TEXT, messages=messages, **options) for _ in range(3)]
    assert len({answer.choices[0].message.content for answer in answers}) == 1


def test_two_choices(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model=TEXT, messages=QUESTION, n=2)
    assert [choice.index for choice in reply.choices] == [0, 1]


def test_log_probabilities(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model=TEXT, messages=QUESTION, logprobs=True, top_logprobs=3)
    tokens = reply.choices[0].logprobs.content
    assert len(tokens) == reply.usage.completion_tokens
    assert all(token.logprob <= 0 and len(token.top_logprobs) >= 3 for token in tokens)


def test_completions_with_echo(client: openai.OpenAI) -> None:
    reply = client.completions.create(model=TEXT, prompt="The service", echo=True, max_tokens=4, logprobs=1)
    assert reply.choices[0].text.startswith("The service")
    assert reply.choices[0].logprobs.token_logprobs[0] is None


def test_completions_of_several_prompts(client: openai.OpenAI) -> None:
    reply = client.completions.create(model=TEXT, prompt=["one", "two"], max_tokens=2)
    assert len(reply.choices) == 2


def test_the_curl_line(service: Service) -> None:
    body = json.dumps({"model": TEXT, "messages": QUESTION})
    command = ["curl", "-sS", f"{service.url}/v1/chat/completions", "-H", "Content-Type: application/json", "-d", body]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    assert "make serve" in answer["choices"][0]["message"]["content"]


def test_the_responses_api(client: openai.OpenAI) -> None:
    reply = client.responses.create(model=TEXT, input="How do I start the service?")
    assert "make serve" in reply.output_text


def test_the_anthropic_messages_api(http: httpx.Client) -> None:
    body = {"model": TEXT, "messages": QUESTION, "max_tokens": 40}
    reply = http.post("/v1/messages", json=body).json()
    assert "make serve" in reply["content"][0]["text"]


def test_tokenize_and_back(http: httpx.Client) -> None:
    tokens = http.post("/tokenize", json={"model": TEXT, "prompt": "make serve ✓"}).json()["tokens"]
    text = http.post("/detokenize", json={"model": TEXT, "tokens": tokens}).json()["prompt"]
    assert text.removeprefix("<|startoftext|>") == "make serve ✓"


def test_json_schema_output(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "port": {"type": "integer"}},
        "required": ["name", "port"],
        "additionalProperties": False,
    }
    reply = client.chat.completions.create(
        model=TEXT,
        messages=[{"role": "user", "content": "Describe the service as JSON."}],
        response_format={"type": "json_schema", "json_schema": {"name": "service", "schema": schema, "strict": True}},
        max_tokens=100,
    )
    answer = json.loads(reply.choices[0].message.content)
    assert isinstance(answer["name"], str) and isinstance(answer["port"], int)


async def test_many_streams_use_both_replicas(service: Service) -> None:
    async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none", timeout=120) as client:

        async def stream() -> int:
            chunks = await client.completions.create(
                model=TEXT, prompt="a", max_tokens=200, stream=True, extra_body={"ignore_eos": True},
                stream_options={"include_usage": True},
            )  # fmt: skip
            tokens = 0
            async for chunk in chunks:
                if chunk.usage:
                    tokens = chunk.usage.completion_tokens
            return tokens

        before = await asyncio.to_thread(gauge, service.url, "vllm:generation_tokens_total")
        streams = [asyncio.create_task(stream()) for _ in range(32)]
        assert await asyncio.gather(*streams) == [200] * 32
        after = await asyncio.to_thread(gauge, service.url, "vllm:generation_tokens_total")
    grown = {replica: after[replica] - before.get(replica, 0) for replica in after}
    busy = [tokens for tokens in grown.values() if tokens >= 200]
    assert len(busy) == 2 and sum(busy) == 32 * 200


async def test_a_client_that_leaves_frees_its_slot(service: Service) -> None:
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as http:
        body = {"model": TEXT, "prompt": "a", "max_tokens": 1500, "ignore_eos": True, "stream": True}
        async with http.stream("POST", "/v1/completions", json=body) as response:
            pieces = response.aiter_raw()
            await anext(pieces)
            await until_running(service, 1)
        await until_running(service, 0)


async def until_running(service: Service, wanted: int) -> None:
    """vLLM's own gauge says so within a second."""
    async with asyncio.timeout(1):
        while sum((await asyncio.to_thread(gauge, service.url, "vllm:num_requests_running")).values()) != wanted:
            await asyncio.sleep(0.02)
