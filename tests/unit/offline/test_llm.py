"""`LLM` over a client without engines: what each prompt comes to, whatever it is."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serve_app import LLM, SamplingParams
from serve_app.batch.run.client import NoResponse, ServiceResponse
from serve_app.batch.run.pace import Pace, ServiceLoad
from serve_app.config.schema import ModelConfig, ServiceConfig
from serve_app.offline import llm as module
from serve_app.offline.llm import RequestFailed

HELLO = [{"role": "user", "content": "Hello"}]
CONFIG = ServiceConfig(models=(ModelConfig.model_validate({"id": "m", "engine": "simulated"}),))


class Engines:
    """Answers each prompt with itself, or as the test says."""

    def __init__(self, config: ServiceConfig, say: Callable[[str], None]) -> None:
        self.config = config
        self.bodies: list[dict[str, Any]] = []
        self.answers: dict[str, ServiceResponse | NoResponse] = {}
        self.hangs: set[str] = set()
        self.cancelled: list[str] = []

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def client(self) -> Engines:
        return self

    def pace(self) -> Pace:
        return Pace()

    async def load(self, model: str | None) -> ServiceLoad | None:
        return None

    async def send(self, url: str, body: bytes) -> ServiceResponse:
        asked = json.loads(body)
        self.bodies.append(asked)
        text = str(asked["prompt"]) if "prompt" in asked else asked["messages"][-1]["content"]
        if text in self.hangs:
            try:
                await asyncio.sleep(60)
            finally:
                self.cancelled.append(text)
        answer = self.answers.get(text) or reply({"content": text} if "messages" in asked else None, text=text)
        if isinstance(answer, NoResponse):
            raise answer
        return answer


def reply(message: dict[str, Any] | None = None, text: str = "", **more: Any) -> ServiceResponse:
    choice = {"index": 0, "finish_reason": "stop"} | ({"message": message} if message else {"text": text})
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
    return ServiceResponse(200, json.dumps({"id": "r", "choices": [choice | more], "usage": usage}).encode())


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> Iterator[LLM]:
    monkeypatch.setattr(module, "LocalEngines", Engines)
    with LLM(CONFIG, quiet=True) as llm:
        yield llm


@pytest.fixture
def engines(llm: LLM) -> Engines:
    return llm._engines  # type: ignore[return-value]


def test_importing_the_package_is_light() -> None:
    check = "import sys, serve_app; sys.exit(any(m in sys.modules for m in ('ray', 'aiohttp', 'pydantic', 'vllm')))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.mark.parametrize("count", [0, 1, 3])
def test_as_many_parameters_as_prompts_or_none_is_sent(llm: LLM, engines: Engines, count: int) -> None:
    each = [SamplingParams(seed=number) for number in range(count)]
    for ask in (lambda: llm.generate(["a", "b"], each), lambda: llm.chat([HELLO, HELLO], each, iterator=True)):
        with pytest.raises(ValueError, match=f"2 prompts, but {count} sampling_params"):
            ask()
    assert not engines.bodies
    assert [one.outputs[0].text for one in llm.generate(["a", "b"], [{"seed": 1}, {"seed": 2}])] == ["a", "b"]
    assert [body["seed"] for body in engines.bodies] == [1, 2]


@pytest.mark.parametrize("count", [1, 3])
def test_a_generator_that_gives_another_number_is_told_where_it_ends(llm: LLM, count: int) -> None:
    with pytest.raises(ValueError, match="sampling_params: give one for each"):
        llm.generate((text for text in "ab"), [{}] * count)
    results = llm.generate((text for text in "ab"), [{}] * count, iterator=True)
    with pytest.raises(ValueError, match="give one for each"):
        list(results)


@pytest.mark.parametrize("params", [{"warmth": 1}, [{}, {"warmth": 1}], 5])
def test_parameters_are_read_before_anything_is_sent(llm: LLM, engines: Engines, params: Any) -> None:
    with pytest.raises(TypeError, match="sampling parameter"):
        llm.generate(["a", "b"], params, iterator=True)
    with pytest.raises(TypeError, match="stream"):
        llm.generate("a", stream=True)
    with pytest.raises(ValueError, match="'raise' or 'keep'"):
        llm.generate("a", errors="ignore")
    assert not engines.bodies


def test_an_adapter_is_asked_by_its_name(llm: LLM, engines: Engines) -> None:
    llm.chat(HELLO, adapter="support-de")
    llm.generate("a", adapter="support-de")
    llm.chat(HELLO, model="m")
    assert [body["model"] for body in engines.bodies] == ["support-de", "support-de", "m"]
    assert not any("adapter" in body for body in engines.bodies)
    with pytest.raises(TypeError, match="leave model='m' out"):
        llm.chat(HELLO, model="m", adapter="support-de")


def deep() -> list[Any]:
    found: list[Any] = []
    for _ in range(3000):
        found = [found]
    return found


def image(value: object) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image", "image": value}]}]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (None, "not NoneType"),
        ("Hello", "not str"),
        (["Hello"], "not list with str"),
        (image(Path("/nowhere.png")), "No such file"),
        (image(5), "not int"),
        ([{"role": "user", "content": [{"type": "image"}]}], "KeyError"),
        ([{"role": "user", "content": "\ud800"}], "surrogates not allowed"),
        ([{"role": "user", "content": object()}], "object"),
        ([{"role": "user", "content": deep()}], "recursion"),
        ([{"role": "user", "content": "long"}], "400: too long"),
        ([{"role": "user", "content": "html"}], "cannot be read"),
        ([{"role": "user", "content": "deep"}], "nested too deeply"),
        ([{"role": "user", "content": "none"}], "cannot be read"),
        ([{"role": "user", "content": "odd error"}], "400: [[["),
    ],
)
def test_what_fails_of_one_prompt_is_in_its_result(llm: LLM, engines: Engines, bad: Any, reason: str) -> None:
    nested = b"[" * 2000
    engines.answers = {
        "long": ServiceResponse(400, b'{"error": {"message": "too long"}}'),
        "html": ServiceResponse(200, b"<html>"),
        "deep": ServiceResponse(200, b'{"x": ' + nested),
        "none": ServiceResponse(200, b"{}"),
        "odd error": ServiceResponse(400, nested),
    }
    results = llm.chat([HELLO, bad, HELLO], errors="keep")
    assert [one.error is None for one in results] == [True, False, True]
    assert reason in results[1].error and not results[1].outputs
    seen = []
    with pytest.raises(RequestFailed) as failed:
        for one in llm.chat([HELLO, bad, HELLO], iterator=True):
            seen.append(one)
    assert failed.value.index == 1 and reason in str(failed.value) and len(seen) == 1


@pytest.mark.parametrize("bad", [None, 5, ["a", "b"], [1.5], [True], "\ud800", {"prompt": "a"}])
def test_a_prompt_that_is_none_fails_by_itself(llm: LLM, bad: Any) -> None:
    results = llm.generate(["a", bad, "b"], errors="keep")
    assert [one.error is None for one in results] == [True, False, True]
    assert [one.prompt for one in results][::2] == ["a", "b"]
    assert llm.generate([[1, 2, 3]])[0].prompt == [1, 2, 3]


def test_a_generator_that_raises_takes_back_what_is_open(llm: LLM, engines: Engines) -> None:
    engines.hangs = {"slow"}

    def prompts() -> Iterator[str]:
        yield "a"
        yield "slow"
        while len(engines.bodies) < 2:
            time.sleep(0.01)
        raise OSError("the source is gone")

    with pytest.raises(OSError, match="the source is gone"):
        llm.generate(prompts(), errors="keep")
    llm._call(asyncio.sleep(0.01))
    assert engines.cancelled == ["slow"]


CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bonn"}'}}


def test_a_result_has_all_that_the_answer_had(llm: LLM, engines: Engines) -> None:
    logprobs = {"content": [{"token": "a", "logprob": -0.5, "top_logprobs": []}]}
    message = {"content": None, "tool_calls": [CALL], "reasoning": "hm"}
    engines.answers["Hello"] = reply(message, logprobs=logprobs, finish_reason="tool_calls", stop_reason=7)
    (result,) = llm.chat(HELLO, {"logprobs": 2}, tools=[{"type": "function"}])
    (output,) = result.outputs
    assert engines.bodies[0]["tools"] and engines.bodies[0]["top_logprobs"] == 2
    assert (output.text, output.tool_calls, output.finish_reason) == ("", [CALL], "tool_calls")
    assert (output.logprobs, output.reasoning, output.stop_reason) == (logprobs, "hm", 7)
    assert (result.prompt_tokens, result.output_tokens, result.cached_tokens) == (3, 2, 1)
    tokens = {"tokens": ["a"], "token_logprobs": [-0.5]}
    engines.answers["a"] = reply(text="b", logprobs=tokens, prompt_logprobs=[None, {"5": {"logprob": -1}}])
    (result,) = llm.generate("a")
    assert result.outputs[0].logprobs == tokens and result.prompt_logprobs == [None, {"5": {"logprob": -1}}]


def test_models_that_are_not_there_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LocalEngines", Engines)
    with pytest.raises(ValueError, match=r"'x' is not in the configuration, which has \['m'\]"):
        LLM(CONFIG, models=["x"], quiet=True)
