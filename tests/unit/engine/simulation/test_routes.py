"""What the simulated engine answers on each route, through the official clients."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from serve_app.config.schema import ModelConfig, Simulated
from serve_app.engine.simulation import SimulatedEngine
from tests.unit.engine.simulation.replica import FAST, HELLO, Replica


async def test_chat(replica: Replica) -> None:
    answer = await replica.client.chat.completions.create(model="one", messages=HELLO, max_tokens=3, n=2)
    assert [choice.message.content for choice in answer.choices] == ["tok0 tok1 tok2"] * 2
    assert [choice.finish_reason for choice in answer.choices] == ["length"] * 2
    assert answer.usage and (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (6, 6)
    assert answer.model == "one"


async def test_without_a_limit_the_answer_stops_by_itself(replica: Replica) -> None:
    answer = await replica.client.chat.completions.create(model="sim/one", messages=HELLO)
    assert answer.choices[0].finish_reason == "stop" and answer.usage and answer.usage.completion_tokens == 64


async def test_an_image_counts_256_tokens(replica: Replica) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4000}}
    messages: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}]
    answer = await replica.client.chat.completions.create(model="one", messages=messages, max_tokens=1)
    assert answer.usage and answer.usage.prompt_tokens == 256 + 3


async def test_chat_stream(replica: Replica) -> None:
    stream = await replica.client.chat.completions.create(
        model="one",
        messages=HELLO,
        max_completion_tokens=5,
        stream=True,
        stream_options={"include_usage": True},
        n=2,
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    for index in range(2):
        choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert "".join(choice.delta.content or "" for choice in choices) == "tok0 tok1 tok2 tok3 tok4"
        assert [choice.finish_reason for choice in choices] == [None] * 5 + ["length"]
    assert chunks[-1].choices == [] and chunks[-1].usage and chunks[-1].usage.completion_tokens == 10


async def test_the_bytes_of_a_stream_are_framed_as_vllm_frames_them(replica: Replica) -> None:
    body = {"model": "one", "messages": HELLO, "max_tokens": 2, "stream": True}
    answer = await replica.post("/v1/chat/completions", body)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    *events, done, nothing = answer.text.split("\n\n")
    assert (done, nothing) == ("data: [DONE]", "") and all(event.startswith("data: {") for event in events)
    role, first, last = (json.loads(event[6:]) for event in events)
    assert list(role) == ["id", "object", "created", "model", "choices", "prompt_token_ids", "prompt_text"]
    choice = {
        "index": 0,
        "delta": {"content": "tok0"},
        "logprobs": None,
        "finish_reason": None,
        "token_ids": None,
    }
    assert first["choices"] == [choice] and list(first["choices"][0]) == list(choice)
    end = {"finish_reason": "length", "stop_reason": None, "token_ids": None}
    assert last["choices"] == [{"index": 0, "delta": {"content": " tok1"}, "logprobs": None, **end}]


async def test_a_model_name_with_the_marks_of_a_template_survives() -> None:
    names = ("a@b", 'quo"te', "tok0 é")
    model = ModelConfig(id=names[0], aliases=names[1:], engine="simulated", simulated=Simulated(**FAST))
    app = (await SimulatedEngine.start(model)).app
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as http:
        for path, more in (("chat/completions", {"messages": HELLO}), ("completions", {"prompt": "a"})):
            for name in names:
                answer = await http.post(f"/v1/{path}", json={"model": name, "max_tokens": 2, "stream": True, **more})
                chunks = [json.loads(event[6:]) for event in answer.text.split("\n\n")[:-2]]
                assert {chunk["model"] for chunk in chunks} == {name}


async def test_completions(replica: Replica) -> None:
    answer = await replica.client.completions.create(model="one", prompt=["abcd" * 3, "abcd"], max_tokens=2, n=2)
    assert [(choice.index, choice.text) for choice in answer.choices] == [(i, "tok0 tok1") for i in range(4)]
    assert answer.usage and (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 8)
    stream = await replica.client.completions.create(model="one", prompt=[1, 2, 3], max_tokens=4, stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks) == "tok0 tok1 tok2 tok3"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 3 + ["length"]


async def test_responses(replica: Replica) -> None:
    answer = await replica.client.responses.create(model="one", input="Hello", instructions="Be short")
    assert answer.status == "completed" and answer.output_text == " ".join(f"tok{i}" for i in range(64))
    stream = await replica.client.responses.create(model="one", input="Hello", max_output_tokens=3, stream=True)
    events = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "tok0 tok1 tok2"
    assert events[-1].type == "response.incomplete" and events[-1].response.output_text == "tok0 tok1 tok2"


async def test_messages(replica: Replica) -> None:
    anthropic = pytest.importorskip("anthropic")
    client = anthropic.AsyncAnthropic(base_url=replica.url, api_key="none", max_retries=0)
    answer = await client.messages.create(model="one", max_tokens=3, messages=HELLO, system="Be short")
    assert answer.content[0].text == "tok0 tok1 tok2" and answer.stop_reason == "max_tokens"
    async with client.messages.stream(model="one", max_tokens=3, messages=HELLO) as stream:
        assert await stream.get_final_text() == "tok0 tok1 tok2"
        assert (await stream.get_final_message()).usage.output_tokens == 3
    counted = await client.messages.count_tokens(model="one", messages=HELLO)
    assert counted.input_tokens == 6


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_embeddings_depend_on_the_text_alone(replica: Replica, encoding: Any) -> None:
    create = replica.client.embeddings.create
    answer = await create(model="one", input=["cat", "dog", "cat"], encoding_format=encoding)
    if encoding == "base64":
        assert all(isinstance(one.embedding, str) for one in answer.data)
        answer = await create(model="one", input=["cat", "dog", "cat"])
    cat, dog, again = (one.embedding for one in answer.data)
    assert cat == again != dog and sum(value * value for value in cat) == pytest.approx(1)


async def test_tokenize_detokenize_version_models_and_health(replica: Replica) -> None:
    tokens = (await replica.post("/tokenize", {"model": "one", "prompt": "abcdefgh"})).json()
    assert tokens == {"count": 2, "max_model_len": 32768, "tokens": [0, 1]}
    assert (await replica.post("/detokenize", {"model": "one", "tokens": [0, 1]})).json() == {"prompt": "tok0 tok1"}
    assert (await replica.get("/version")).json() == {"version": replica.engine.versions["simulated"]}
    models = [model async for model in await replica.client.models.list()]
    assert [model.id for model in models] == ["sim/one", "one"]
    assert (await replica.get("/health")).status_code == 200


async def test_load_and_metrics_say_what_runs_and_waits(slow: Replica) -> None:
    tasks = [
        asyncio.create_task(slow.post("/v1/completions", {"prompt": "a" * 400, "max_tokens": 1000})) for _ in range(3)
    ]
    await slow.until(running=2, waiting=1)
    text = (await slow.get("/metrics")).text
    assert 'vllm:num_requests_running{engine="0",model_name="sim/one"} 2.0' in text
    assert 'vllm:num_requests_waiting{engine="0",model_name="sim/one"} 1.0' in text
    assert 'vllm:kv_cache_usage_perc{engine="0",model_name="sim/one"} 0.00' in text
    assert slow.engine.load().kv_usage >= 200 / 100_000
    for task in tasks:
        task.cancel()
    await slow.until(running=0)
    assert slow.engine.load().kv_usage == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_its_place(slow: Replica, stream: bool) -> None:
    body = {"prompt": "a", "max_tokens": 10_000, "stream": stream}
    leaving = [asyncio.create_task(slow.post("/v1/completions", body)) for _ in range(2)]
    await slow.until(running=2)
    waiting = asyncio.create_task(slow.post("/v1/completions", {"prompt": "a", "max_tokens": 1}))
    await slow.until(running=2, waiting=1)
    leaving[0].cancel()
    assert (await waiting).status_code == 200
    leaving[1].cancel()
    await slow.until(running=0)
