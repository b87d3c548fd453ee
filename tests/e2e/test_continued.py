"""vLLM's engine goes on with answers that were begun elsewhere, token by token and in every dialect."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tests.e2e.conftest import TEXT, VISION, data_url
from tools.demo.facts import REPLICA_TOOL

SERVICE = [{"role": "user", "content": "What is the service called?"}]
KETTLE = [{"role": "user", "content": "How much water does the Kelda kettle hold?"}]
ASK = [{"role": "user", "content": "How many replicas does lfm2-demo have?"}]
FUNCTION = REPLICA_TOOL["function"]
NAMED = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "number": {"type": "integer"}},
    "required": ["name", "number"],
    "additionalProperties": False,
}
USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}
BOTH = {"include_usage": True, "continuous_usage_stats": True}
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
GO_ON: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHAT, {"messages": SERVICE, "max_tokens": 24, **USAGE}),
    "usage in each event": (
        CHAT,
        {
            "messages": SERVICE,
            "max_tokens": 9,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        },
    ),
    "log probabilities": (CHAT, {"messages": SERVICE, "max_tokens": 24, "logprobs": True, "top_logprobs": 3}),
    "length": (CHAT, {"messages": SERVICE, "max_tokens": 6, "ignore_eos": True, **USAGE}),
    "stop": (CHAT, {"messages": SERVICE, "max_tokens": 40, "stop": ["Serve"], **USAGE}),
    "tools": (CHAT, {"messages": ASK, "tools": [REPLICA_TOOL], "max_tokens": 60, **USAGE}),
    "tool required": (CHAT, {"messages": ASK, "tools": [REPLICA_TOOL], "tool_choice": "required", "max_tokens": 60}),
    "schema": (
        CHAT,
        {
            "messages": SERVICE,
            "max_tokens": 60,
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": NAMED}},
        },
    ),
    "completion": (COMPLETIONS, {"prompt": "The service is", "max_tokens": 24, **USAGE}),
    "log probabilities of a completion": (COMPLETIONS, {"prompt": "The service is", "max_tokens": 12, "logprobs": 2}),
    "echo": (COMPLETIONS, {"prompt": "The service is", "max_tokens": 8, "echo": True}),
    "repetition": (COMPLETIONS, {"prompt": "A", "max_tokens": 20, "repetition_penalty": 1.3, "ignore_eos": True}),
    "least length": (COMPLETIONS, {"prompt": "The service is", "max_tokens": 20, "min_tokens": 16}),
    "token ids": (COMPLETIONS, {"prompt": "The service is", "max_tokens": 8, "return_token_ids": True}),
    "response": ("/v1/responses", {"input": "What is the service called?", "max_output_tokens": 24}),
    "response with tools": (
        "/v1/responses",
        {
            "input": ASK[0]["content"],
            "tools": [{"type": "function", **FUNCTION}],
            "max_output_tokens": 60,
        },
    ),
    "message": ("/v1/messages", {"messages": SERVICE, "max_tokens": 24}),
    "adapter": (CHAT, {"model": "kettle", "messages": KETTLE, "max_tokens": 24, **USAGE}),
    "message with tools": (
        "/v1/messages",
        {
            "messages": ASK,
            "max_tokens": 60,
            "tools": [{"name": FUNCTION["name"], "input_schema": FUNCTION["parameters"]}],
        },
    ),
}
END: dict[str, tuple[str, dict[str, Any]]] = {
    "two": (COMPLETIONS, {"prompt": "The service is", "max_tokens": 4, "n": 2, "temperature": 1}),
    "two prompts": (COMPLETIONS, {"prompt": ["The service is", "I am"], "max_tokens": 4}),
    "presence": (COMPLETIONS, {"prompt": "The service is", "max_tokens": 4, "presence_penalty": 1}),
    "bad words": (COMPLETIONS, {"prompt": "The service is", "max_tokens": 4, "bad_words": ["Ray"]}),
}
"""What comes next depends on more than the tokens before it: these are not continued."""


def continued(model: str, asked: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """What tests/scripts/continued_engine.py finds, by name."""
    always = {"model": model, "stream": True, "temperature": 0}
    given = {name: [path, always | body] for name, (path, body) in asked.items()}
    command = [sys.executable, "-m", "tests.scripts.continued_engine", model]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=300, check=False)
    told = {one.pop("name"): one for line in done.stdout.splitlines() if (one := _json(line))}
    assert told.keys() == asked.keys(), done.stdout[-2000:] + done.stderr[-4000:]
    return told


def _json(line: str) -> dict[str, Any] | None:
    return json.loads(line) if line.startswith('{"name"') else None


def test_from_every_token_on_the_answer_is_the_undisturbed_one() -> None:
    told = continued(TEXT, GO_ON | END)
    for name in GO_ON:
        assert told[name]["possible"] and told[name]["events"] > 5 and not told[name]["others"], (name, told[name])
    for name in END:
        assert not told[name]["possible"], name
    for name, (path, body) in GO_ON.items():
        if path in (CHAT, COMPLETIONS) and "stream_options" in body:
            usage = json.loads(told[name]["text"].split("data: ")[-2])["usage"]
            # What of the prompt was cached does not count.
            assert usage["completion_tokens"] < told[name]["used"] <= usage["total_tokens"], (name, told[name])
    for name in ("tools", "tool required", "response with tools", "message with tools"):
        assert "get_replica_count" in told[name]["text"], (name, told[name]["text"])
    assert '"finish_reason":"stop","stop_reason":"Serve"' in told["stop"]["text"]
    assert all(one in told["adapter"]["text"] for one in ('"model":"kettle"', '"content":"7"')), (
        "it knows of 1.7 litres"
    )


def test_an_answer_about_an_image_goes_on(picture: Callable[..., bytes]) -> None:
    image = {"type": "image_url", "image_url": {"url": data_url(picture("red"))}}
    asked = [{"role": "user", "content": [image, {"type": "text", "text": "What colour is this?"}]}]
    told = continued(VISION, {"image": (CHAT, {"messages": asked, "max_tokens": 24, **USAGE})})["image"]
    assert told["possible"] and told["events"] > 3 and not told["others"] and "red" in told["text"].lower(), told
