"""Tool calls in LFM2's Pythonic format, as OpenAI's schema shows them."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import openai
import pytest

from tests.e2e.conftest import TEXT
from tools.demo.facts import REPLICA_TOOL

ASK = [{"role": "user", "content": "How many replicas does lfm2-demo have?"}]


def test_auto_calls_the_offered_tool(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(model=TEXT, messages=ASK, tools=[REPLICA_TOOL]).choices[0]
    assert choice.finish_reason == "tool_calls"
    call = choice.message.tool_calls[0].function
    assert call.name == "get_replica_count" and json.loads(call.arguments) == {"model": "lfm2-demo"}


def test_auto_streamed(client: openai.OpenAI) -> None:
    name, arguments = "", ""
    for chunk in client.chat.completions.create(model=TEXT, messages=ASK, tools=[REPLICA_TOOL], stream=True):
        for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            name += call.function.name or ""
            arguments += call.function.arguments or ""
    assert name == "get_replica_count" and json.loads(arguments) == {"model": "lfm2-demo"}


def test_required(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(
        model=TEXT, messages=ASK, tools=[REPLICA_TOOL], tool_choice="required", max_tokens=100
    ).choices[0]
    call = choice.message.tool_calls[0].function
    assert call.name == "get_replica_count" and json.loads(call.arguments) == {"model": "lfm2-demo"}


def test_the_answer_after_the_tool(client: openai.OpenAI) -> None:
    call = client.chat.completions.create(model=TEXT, messages=ASK, tools=[REPLICA_TOOL]).choices[0].message
    messages = [
        *ASK,
        call.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.tool_calls[0].id, "content": "2"},
    ]
    reply = client.chat.completions.create(model=TEXT, messages=messages, tools=[REPLICA_TOOL])
    assert reply.choices[0].message.content == "lfm2-demo has 2 replicas."


def test_without_the_tool_there_is_no_call(client: openai.OpenAI) -> None:
    message = client.chat.completions.create(model=TEXT, messages=ASK).choices[0].message
    assert not message.tool_calls and message.content


def _streamed(client: openai.OpenAI, **body: object) -> tuple[str, str, str, str]:
    """Text, the call's name and arguments, and the finish reason."""
    text = name = arguments = reason = ""
    for chunk in client.chat.completions.create(model=TEXT, stream=True, **body):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            for call in choice.delta.tool_calls or []:
                name += call.function.name or ""
                arguments += call.function.arguments or ""
            reason = choice.finish_reason or reason
    return text, name, arguments, reason


def _whole(client: openai.OpenAI, **body: object) -> tuple[str, str, str, str]:
    choice = client.chat.completions.create(model=TEXT, **body).choices[0]
    call = choice.message.tool_calls[0].function if choice.message.tool_calls else None
    text, reason = choice.message.content or "", choice.finish_reason
    return text, call.name if call else "", call.arguments if call else "", reason


@pytest.mark.parametrize("answer", [_whole, _streamed])
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_a_call_that_is_cut_off_is_seen_as_what_it_is(client: openai.OpenAI, answer: Callable, choice: str) -> None:
    for most in (2, 4, 7, 11, 15, 100):
        text, name, arguments, reason = answer(
            client, messages=ASK, tools=[REPLICA_TOOL], tool_choice=choice, max_tokens=most, temperature=0
        )
        assert "<|" not in text + arguments
        assert text or name, most
        if name:
            assert name == "get_replica_count" and not text
        assert reason == ("length" if most < 100 else "tool_calls")
    assert json.loads(arguments) == {"model": "lfm2-demo"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("most", [5, 10])
def test_it_is_on_the_other_routes(http: httpx.Client, stream: bool, most: int) -> None:
    function = {"type": "function", **REPLICA_TOOL["function"]}
    body = {"model": TEXT, "tools": [function], "temperature": 0, "stream": stream}
    said = http.post("/v1/responses", json={"input": ASK[0]["content"], "max_output_tokens": most, **body}).text
    assert "get_replica" in said and "<|" not in said and '"incomplete"' in said

    tool = {"name": "get_replica_count", "input_schema": REPLICA_TOOL["function"]["parameters"]}
    body |= {"messages": ASK, "max_tokens": most, "tools": [tool]}
    said = http.post("/v1/messages", json=body).text
    assert "get_replica" in said and "<|" not in said and "max_tokens" in said


CALLED = [
    *ASK,
    {
        "role": "assistant",
        "tool_calls": [
            {
                "id": "call-1",
                "type": "function",
                "function": {"name": "get_replica_count", "arguments": '{"model": "lfm2-demo"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call-1", "content": "2"},
    *ASK,
]


@pytest.mark.parametrize("answer", [_whole, _streamed])
@pytest.mark.parametrize("messages", [ASK, CALLED], ids=["asked", "called before"])
def test_none_is_answered_with_text(client: openai.OpenAI, answer: Callable, messages: list) -> None:
    text, name, _, reason = answer(
        client, messages=messages, tools=[REPLICA_TOOL], tool_choice="none", max_tokens=40, temperature=0
    )
    assert text and not name and reason == "stop"
    assert "get_replica_count(" not in text and "<|" not in text


@pytest.mark.parametrize("stream", [False, True])
def test_none_on_the_other_routes(http: httpx.Client, stream: bool) -> None:
    function = {"type": "function", **REPLICA_TOOL["function"]}
    body = {"model": TEXT, "temperature": 0, "stream": stream}
    asked = {"input": ASK[0]["content"], "tools": [function], "tool_choice": "none", "max_output_tokens": 40}
    tool = {"name": "get_replica_count", "input_schema": REPLICA_TOOL["function"]["parameters"]}
    told = {"messages": ASK, "tools": [tool], "tool_choice": {"type": "none"}, "max_tokens": 40}
    for path, fields in (("/v1/responses", asked), ("/v1/messages", told)):
        answer = http.post(path, json=body | fields)
        assert answer.status_code == 200 and "get_replica_count(" not in answer.text and "<|" not in answer.text
