"""What `LLM` gives back: an engine's answer to one prompt, as objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from serve_app.batch.run.client import NoResponse, ServiceResponse
from serve_app.http.json_bytes import UNREADABLE, explained

Prompt = str | list[int] | None


class PromptFailed(Exception):
    """There is no answer to a prompt; the text says why."""


@dataclass(frozen=True, slots=True)
class CompletionOutput:
    """One answer to a prompt."""

    index: int
    text: str
    """Empty where the answer is a call."""
    finish_reason: str | None
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    """As OpenAI's schema has them: `{"id", "type", "function": {"name", "arguments"}}`."""
    reasoning: str | None = None
    """What the model wrote before its answer, where the engine has a reasoning parser."""
    logprobs: dict[str, Any] | None = None
    """As OpenAI's schema has them: `content` of a chat; `tokens`, `token_logprobs`, `top_logprobs` of a completion."""
    stop_reason: int | str | None = None
    """The stop string or token that ended it."""


@dataclass(frozen=True, slots=True)
class RequestOutput:
    """What came of one prompt."""

    request_id: str
    prompt: Prompt
    """As given; None for a conversation, which the engine renders."""
    outputs: list[CompletionOutput]
    """As many as `n`; none where `error` says why."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int | None = None
    """Of the prompt's, those that were in the prefix cache; None where the engine does not tell."""
    prompt_logprobs: list[Any] | None = None
    error: str | None = None


def output_of(index: int, prompt: Prompt, answer: ServiceResponse | NoResponse) -> RequestOutput:
    """The prompt's result; raises PromptFailed."""
    if isinstance(answer, NoResponse):
        raise PromptFailed(str(answer))
    if answer.status != 200:
        raise PromptFailed(_refusal(answer))
    try:
        reply = msgspec.json.decode(answer.body, type=_CompletionBody)
    except UNREADABLE as error:
        raise PromptFailed(f"the answer cannot be read: {explained(error)}") from None
    usage, first = reply.usage, reply.choices[0] if reply.choices else None
    return RequestOutput(
        reply.id or str(index),
        prompt,
        [_completion(choice) for choice in reply.choices],
        usage.prompt_tokens,
        usage.completion_tokens or 0,
        usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None,
        reply.prompt_logprobs or (first.prompt_logprobs if first else None),
    )


def _completion(choice: _CompletionChoice) -> CompletionOutput:
    said = choice.message or _ChatMessage(content=choice.text)
    return CompletionOutput(
        choice.index,
        said.content or "",
        choice.finish_reason,
        said.tool_calls or [],
        said.reasoning or said.reasoning_content,
        choice.logprobs,
        choice.stop_reason,
    )


class _ChatMessage(msgspec.Struct):
    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class _CompletionChoice(msgspec.Struct):
    index: int
    finish_reason: str | None = None
    text: str = ""
    message: _ChatMessage | None = None
    logprobs: dict[str, Any] | None = None
    stop_reason: int | str | None = None
    prompt_logprobs: list[Any] | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _CompletionUsage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int | None = 0
    prompt_tokens_details: _PromptDetails | None = None


class _CompletionBody(msgspec.Struct):
    """What is read of an answer to either kind of request."""

    choices: list[_CompletionChoice]
    usage: _CompletionUsage
    id: str = ""
    prompt_logprobs: list[Any] | None = None


def _refusal(answer: ServiceResponse) -> str:
    try:
        return f"{answer.status}: {msgspec.json.decode(answer.body)['error']['message']}"
    except (*UNREADABLE, KeyError, TypeError):
        return f"{answer.status}: {answer.body[:300].decode(errors='replace')}"
