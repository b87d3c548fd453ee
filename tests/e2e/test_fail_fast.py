"""vLLM's own request types, told to stop at the first wrong element of a list."""

from __future__ import annotations

import importlib
from typing import Any

import pydantic
import pytest

from serve_app.engine import fail_fast

MANY = 500
HI = [{"role": "user", "content": "x"}]
OPENAI, POOLING = "vllm.entrypoints.openai", "vllm.entrypoints.pooling"
CHAT = f"{OPENAI}.chat_completion.protocol:ChatCompletionRequest"
RESPONSE = f"{OPENAI}.responses.protocol:ResponsesRequest"
MESSAGE = "vllm.entrypoints.anthropic.protocol:AnthropicMessagesRequest"
NUMBERS, OBJECTS = [1] * MANY, [{}] * MANY
NAMED: dict[str, Any] = {str(number): [] for number in range(MANY)}


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    fail_fast.install()


def errors(kind: str, body: dict[str, Any]) -> int:
    module, _, name = kind.partition(":")
    adapter = pydantic.TypeAdapter(getattr(importlib.import_module(module), name))
    with pytest.raises(pydantic.ValidationError) as failed:
        adapter.validate_python({"model": "m", "max_tokens": 4, **body})
    return failed.value.error_count()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (CHAT, {"messages": NUMBERS}),
        (CHAT, {"messages": HI, "tools": NUMBERS}),
        (CHAT, {"messages": HI, "logit_bias": NAMED}),
        (CHAT, {"messages": HI, "stop_token_ids": OBJECTS}),
        (CHAT, {"messages": HI, "structured_outputs": {"choice": NUMBERS}}),
        (f"{OPENAI}.chat_completion.protocol:BatchChatCompletionRequest", {"messages": [NUMBERS]}),
        (f"{OPENAI}.completion.protocol:CompletionRequest", {"prompt": [OBJECTS]}),
        (RESPONSE, {"input": NUMBERS}),
        (RESPONSE, {"input": [{"role": "user", "content": NUMBERS}]}),
        (RESPONSE, {"input": "x", "metadata": NAMED}),
        (MESSAGE, {"messages": NUMBERS}),
        (MESSAGE.replace("MessagesRequest", "CountTokensRequest"), {"messages": NUMBERS}),
        ("vllm.entrypoints.serve.tokenize.protocol:TokenizeRequest", {"messages": NUMBERS}),
        ("vllm.entrypoints.serve.tokenize.protocol:DetokenizeRequest", {"tokens": OBJECTS}),
        (f"{POOLING}.embed.protocol:EmbeddingRequest", {"input": OBJECTS}),
        (f"{POOLING}.scoring.protocol:RerankRequest", {"query": "a", "documents": NUMBERS}),
        (f"{POOLING}.pooling.protocol:PoolingRequest", {"input": OBJECTS}),
    ],
    ids=lambda value: value.rpartition(":")[2] if isinstance(value, str) else str(value)[:40],
)
def test_errors_do_not_grow_with_the_list(kind: str, body: dict[str, Any]) -> None:
    assert errors(kind, body) < MANY


def test_what_is_right_is_taken_as_before() -> None:
    module, _, name = CHAT.partition(":")
    request = getattr(importlib.import_module(module), name)
    body = {"messages": HI * 3, "stop": ["a", "b"], "logit_bias": {"1": 2, "2": 3}, "stream": "true", "unknown": [1]}
    read = request.model_validate(body)
    assert (len(read.messages), read.stop, read.logit_bias, read.stream) == (3, ["a", "b"], {"1": 2, "2": 3}, True)
