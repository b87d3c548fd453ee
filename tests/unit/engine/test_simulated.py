"""The simulated engine: its step model in virtual time, and its HTTP face through the official client."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest
import uvicorn

from serve_app.config.schema import ModelConfig, Simulated
from serve_app.engine.simulation import SimulatedEngine
from serve_app.engine.simulation.batch import Batch, Sequence

BROKEN_OFF = (openai.APIConnectionError, httpx.RemoteProtocolError)
"""What a client makes of a body that ends too early, by its version."""
FAST = {"step_base_ms": 1.0, "step_per_sequence_ms": 0.0, "prefill_tokens_per_s": 1e6}


def batch(max_running: int = 8, max_queued: int = 100, **timing: Any) -> Batch:
    defaults: dict[str, Any] = {"prefill_tokens_per_s": 1000, "step_base_ms": 10, "step_per_sequence_ms": 1}
    return Batch(Simulated(**defaults | timing), max_running, max_queued)


def run(work: Batch) -> list[tuple[float, Sequence]]:
    """Everything heard until the batch is idle, with the time of each."""
    heard: list[tuple[float, Sequence]] = []
    while (at := work.next_at) is not None:
        heard += [(at, sequence) for sequence in work.step(at)]
    return heard


# The step model; the rest of it is in test_simulated_batch.py


def test_a_cached_prompt_is_not_prefilled_again() -> None:
    work = batch()
    assert run(work) == [] and work.submit(0.0, 100, 1, cached_tokens=100).state == "prefilling"
    assert run(work)[0][0] == pytest.approx(0.01)


def test_no_output_ends_with_the_prefill() -> None:
    work = batch()
    sequence = work.submit(0.0, 100, 0)
    assert run(work) == [(pytest.approx(0.1), sequence)] and sequence.state == "finished"


def test_kv_usage_grows_by_the_tokens_emitted() -> None:
    work = batch(kv_tokens=100)
    work.submit(0.0, 10, 50)
    work.step(0.01 + 20 * 0.01 + 1e-6)
    assert work.kv_usage == pytest.approx(0.3)


def test_cancelling_a_prefill_starts_the_next() -> None:
    work = batch()
    long, short = work.submit(0.0, 10_000, 1), work.submit(0.0, 10, 1)
    work.cancel(1.0, long)
    run(work)
    assert short.ended_at == pytest.approx(1.02)


def test_time_that_was_due_must_be_taken_first() -> None:
    work = batch()
    work.submit(0.0, 10, 5)
    with pytest.raises(ValueError, match="comes first"):
        work.submit(1.0, 10, 5)


# The HTTP face


@dataclass
class Replica:
    engine: SimulatedEngine
    url: str

    @property
    def client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    async def post(self, path: str, body: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with httpx.AsyncClient(base_url=self.url, timeout=20) as http:
            return await http.post(path, content=content)

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url, timeout=20) as http:
            return await http.get(path)

    async def until(self, *, running: int, waiting: int = 0) -> None:
        async with asyncio.timeout(5):
            while (self.engine.load().running, self.engine.load().waiting) != (running, waiting):
                await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def served(timing: dict[str, Any] = FAST, **more: Any) -> AsyncIterator[Replica]:
    model = ModelConfig(id="sim/one", aliases=("one",), engine="simulated", simulated=Simulated(**timing), **more)
    engine = await SimulatedEngine.start(model)
    server = uvicorn.Server(uvicorn.Config(engine.app, port=0, log_level="critical", timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.sleep(0.005)
        yield Replica(engine, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
    finally:
        server.should_exit = True
        await task
        await engine.stop()


@pytest.fixture
async def replica() -> AsyncIterator[Replica]:
    async with served() as started:
        yield started


@pytest.fixture
async def slow() -> AsyncIterator[Replica]:
    """Two places and one in the queue; nothing ends by itself."""
    async with served(FAST | {"step_base_ms": 20}, max_running=2, max_queued=1) as started:
        yield started


HELLO: list[Any] = [{"role": "user", "content": "Hello, how are you today?"}]


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


async def test_beyond_places_and_queue_is_503(slow: Replica) -> None:
    body = {"prompt": "a", "max_tokens": 10_000}
    tasks = [asyncio.create_task(slow.post("/v1/completions", body)) for _ in range(3)]
    await slow.until(running=2, waiting=1)
    with pytest.raises(openai.InternalServerError) as caught:
        await slow.client.chat.completions.create(model="one", messages=HELLO, stream=True)
    assert caught.value.status_code == 503 and caught.value.code == "queue_full"
    too_many = await slow.post("/v1/completions", body | {"n": 4})
    assert too_many.status_code == 503, "each choice takes a place"
    for task in tasks:
        task.cancel()
    await slow.until(running=0)


BAD: list[tuple[str, Any, int, str | None]] = [
    ("chat/completions", b"{", 400, None),
    ("chat/completions", b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, None),
    ("chat/completions", b'{"a": ' + b"9" * 5000 + b"}", 400, None),
    ("chat/completions", b'{"a": "\xff"}', 400, None),
    ("chat/completions", [], 400, None),
    ("chat/completions", {}, 400, "messages"),
    ("chat/completions", {"messages": []}, 400, "messages"),
    ("chat/completions", {"messages": ["hi"]}, 400, "messages[0]"),
    ("chat/completions", {"messages": HELLO, "model": "two"}, 404, "model"),
    ("chat/completions", {"messages": HELLO, "model": ["one"]}, 404, "model"),
    (
        "chat/completions",
        {"messages": [{"role": "user", "content": [{"type": {"a": 1}, "text": "a"}]}]},
        400,
        "messages[0].content[0].type",
    ),
    ("chat/completions", {"messages": HELLO, "max_tokens": 0}, 400, "max_tokens"),
    ("chat/completions", {"messages": HELLO, "n": "2"}, 400, "n"),
    ("chat/completions", {"messages": HELLO, "stream": "banana"}, 400, "stream"),
    ("chat/completions/batch", {"messages": HELLO}, 400, "messages"),
    ("chat/completions/batch", {"messages": []}, 400, "messages"),
    ("chat/completions", {"messages": HELLO, "max_tokens": 32_768}, 400, None),
    ("chat/completions", {"messages": HELLO, "response_format": {"type": "json_object"}}, 400, "response_format"),
    ("chat/completions", {"messages": HELLO, "tool_choice": "required"}, 400, "tool_choice"),
    ("messages", {"messages": HELLO, "max_tokens": 1, "tool_choice": {"type": "any"}}, 400, "tool_choice"),
    ("responses", {"input": "a", "text": {"format": {"type": "json_schema"}}}, 400, "text"),
    ("completions", {"prompt": "a", "structured_outputs": {"regex": "a"}}, 400, "structured_outputs"),
    ("completions", {"prompt": "a" * 4 * 32_768}, 400, None),
    ("completions", {}, 400, "prompt"),
    ("responses", {}, 400, "input"),
    ("messages", {}, 400, "messages"),
    ("embeddings", {"input": []}, 400, "input"),
    ("embeddings", {"input": "a" * 4 * 40_000}, 400, "input"),
    ("nothing", {}, 404, None),
]


@pytest.mark.parametrize(("path", "body", "status", "param"), BAD)
async def test_what_is_wrong_is_said_in_the_routes_schema(
    replica: Replica, path: str, body: Any, status: int, param: str | None
) -> None:
    answer = await replica.post(f"/v1/{path}", body)
    assert answer.status_code == status
    error = answer.json()["error"]
    if path == "messages":
        assert set(error) == {"message", "type"} and param in error["message"]
    else:
        assert set(error) == {"message", "type", "param", "code"} and error["message"]
        assert error["param"] == param
    assert replica.engine.load().running == 0


async def test_wrong_method_is_405(replica: Replica) -> None:
    answer = await replica.get("/v1/chat/completions")
    assert answer.status_code == 405 and answer.json()["error"]["message"]


# Failure


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
