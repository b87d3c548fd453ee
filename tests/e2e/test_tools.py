"""Tool calls in LFM2's Pythonic format, as OpenAI's schema shows them."""

from __future__ import annotations

import json

import openai

from serve_app.demo.facts import REPLICA_TOOL
from tests.e2e.conftest import TEXT

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
