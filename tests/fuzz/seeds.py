"""Requests that are right, on every route: what the fuzz suite damages."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from tests.fuzz.request import Request

TEXT, VISION = "lfm2-demo", "lfm2-vl-demo"
HI = [{"role": "user", "content": "Hello"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "", "parameters": PARAMETERS}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
RED = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFElEQVR4nGP8z4AdMOEQHzgJAEAAAQ8BcT0yAAAAAElF"
    "TkSuQmCC"
)


def _chat(**fields: Any) -> Request:
    return Request("POST", "/v1/chat/completions", {"model": TEXT, "messages": HI, "max_tokens": 4, **fields})


def _post(path: str, **body: Any) -> Request:
    return Request("POST", path, body)


def _calls() -> list[dict[str, Any]]:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bonn"}'}}
    return [
        *HI,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]


def _pictured() -> Request:
    parts = [{"type": "image_url", "image_url": {"url": RED}}, {"type": "text", "text": "What colour?"}]
    return _chat(model=VISION, messages=[{"role": "user", "content": parts}])


def _batch_line() -> str:
    body = {"model": TEXT, "messages": HI, "max_tokens": 2}
    return json.dumps({"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}) + "\n"


ANTHROPIC_TOOL = {"name": "weather", "input_schema": PARAMETERS}

SEEDS: Sequence[Callable[[], Request]] = (
    lambda: _chat(),
    lambda: _chat(stream=True, stream_options={"include_usage": True}, n=2, temperature=0.5, seed=1),
    lambda: _chat(tools=[TOOL], tool_choice="auto"),
    lambda: _chat(tools=[TOOL], messages=_calls(), stream=True),
    lambda: _chat(tools=[TOOL], tool_choice="required", stream=True),
    lambda: _chat(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}),
    lambda: _chat(structured_outputs={"regex": "(yes|no)+"}, stream=True),
    lambda: _chat(logprobs=True, top_logprobs=2, logit_bias={"5": 1}, stop=["a"], bad_words=["x"]),
    _pictured,
    _pictured,
    lambda: _post("/v1/completions", model=TEXT, prompt="Hello", max_tokens=4),
    lambda: _post("/v1/completions", model=TEXT, prompt=["a", "b"], max_tokens=2, stream=True, logprobs=1, echo=True),
    lambda: _post("/v1/completions", model=TEXT, prompt=[[1, 2, 3], [4]], max_tokens=2, n=2),
    lambda: _post("/v1/responses", model=TEXT, input="Hello", max_output_tokens=4),
    lambda: _post("/v1/responses", model=TEXT, input=HI, max_output_tokens=4, stream=True, instructions="Be brief."),
    lambda: _post(
        "/v1/responses", model=TEXT, input=HI, max_output_tokens=4, tools=[{"type": "function", **TOOL["function"]}]
    ),  # type: ignore[dict-item]
    lambda: _post("/v1/messages", model=TEXT, messages=HI, max_tokens=4),
    lambda: _post(
        "/v1/messages", model=TEXT, messages=HI, max_tokens=4, stream=True, system="x", tools=[ANTHROPIC_TOOL]
    ),
    lambda: _post("/v1/messages/count_tokens", model=TEXT, messages=HI),
    lambda: _post("/v1/chat/completions/batch", model=TEXT, messages=[HI, HI], max_tokens=2),
    lambda: _post("/invocations", model=TEXT, messages=HI, max_tokens=2),
    lambda: _post("/v1/embeddings", model=TEXT, input=["a", "b"]),
    lambda: _post("/score", model=TEXT, text_1="a", text_2=["b"]),
    lambda: _post("/tokenize", model=TEXT, prompt="Hello there"),
    lambda: _post("/tokenize", model=TEXT, messages=HI, add_generation_prompt=True),
    lambda: _post("/detokenize", model=TEXT, tokens=[1, 2, 3]),
    lambda: Request("GET", f"/v1/models/{TEXT}"),
    lambda: Request("GET", "/v1/models"),
    lambda: Request("GET", "/v1/files", query={"limit": "2", "after": "file-1", "order": "asc", "purpose": "batch"}),
    lambda: Request("GET", "/v1/files/file-1/content"),
    lambda: Request("DELETE", "/v1/files/file-1"),
    lambda: Request("GET", "/v1/batches", query={"limit": "2", "after": "batch_1"}),
    lambda: Request("POST", "/v1/batches/batch_1/cancel"),
    lambda: Request("GET", "/load"),
    lambda: _post("/v1/batches", input_file_id="file-1", endpoint="/v1/chat/completions", completion_window="24h"),
    lambda: Request(
        "POST",
        "/v1/files",
        {
            "purpose": "batch",
            "expires_after[anchor]": "created_at",
            "expires_after[seconds]": "3600",
            "file": ["a.jsonl", _batch_line()],
        },
        form=True,
    ),
)


def draw(rng: Random) -> Request:
    """One of them, which shares nothing with another."""
    return copy.deepcopy(rng.choice(SEEDS)())
