"""What the simulated engine reads of a request: sizes, limits, and how to answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import pydantic

from serve_app.http.errors import ApiError

DEFAULT_OUTPUT_TOKENS = 64
IMAGE_TOKENS = 256
CHARACTERS_PER_TOKEN = 4
LONGEST_TOKEN = 4 * CHARACTERS_PER_TOKEN
"""Bytes; of characters that have four."""
MOST_CHOICES = 16_384
"""As vLLM's VLLM_MAX_N_SEQUENCES."""
DOOM = "SIMULATE:die"
"""In a prompt: the engine dies after `DOOM_TOKENS` tokens of the answer."""
DOOM_TOKENS = 3

Route = Literal["chat", "chat batch", "completion", "response", "message"]
_MAX_TOKENS_FIELDS: dict[Route, tuple[str, ...]] = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "chat batch": ("max_completion_tokens", "max_tokens"),
    "completion": ("max_tokens",),
    "response": ("max_output_tokens",),
    "message": ("max_tokens",),
}
_FLAG: pydantic.TypeAdapter[bool | None] = pydantic.TypeAdapter(bool | None)
_TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal"})
_IMAGE_PARTS = frozenset({"image_url", "input_image", "image"})


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for text."""

    model: str
    """As the client named it."""
    prompts: tuple[int, ...]
    """Length of each prompt, tokens."""
    choices: int
    """Answers to each prompt."""
    output_tokens: int
    """Length of each answer, tokens."""
    finish_reason: Literal["stop", "length"]
    """`length` if the client set the length, `stop` if the default did."""
    stream: bool
    include_usage: bool
    """A stream ends with a chunk of usage."""
    doomed: bool
    """The engine dies while answering."""

    @property
    def prompt_tokens(self) -> int:
        return sum(self.prompts)


def read_json(body: bytes) -> dict[str, Any]:
    """The body as an object, or 400."""
    try:
        data = json.loads(body)
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply", code="invalid_json") from None
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(data, dict):
        raise ApiError(400, "the body is not a JSON object", code="invalid_json")
    return data


def read_ask(route: Route, data: dict[str, Any], model: str, max_model_len: int) -> Ask:
    """Check a request for text; raises ApiError 400. `max_model_len` is in tokens."""
    prompts = tuple(_prompts(route, data))
    longest = max(size for size, _ in prompts)
    output, given = _output_tokens(route, data)
    if not given:
        output = min(output, max_model_len - longest)
    if longest + max(1, output) > max_model_len:
        raise ApiError(
            400,
            f"the context length is {max_model_len} tokens; the prompt has {longest} and "
            f"{max(1, output)} of output were asked for: shorten one",
            code="context_length_exceeded",
        )
    if param := _constraint(data):
        message = f"the simulated engine writes filler, which {param} cannot hold for: leave it out"
        raise ApiError(400, message, param, "unsupported_by_simulation")
    options = data.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise ApiError(400, "stream_options is not an object", "stream_options")
    return Ask(
        model=model,
        prompts=tuple(size for size, _ in prompts),
        choices=_whole(data, "n", 1, MOST_CHOICES) if data.get("n") is not None else 1,
        output_tokens=output,
        finish_reason="length" if given else "stop",
        stream=route != "chat batch" and _flag(data, "stream"),
        include_usage=_flag(options or {}, "include_usage"),
        doomed=any(doomed for _, doomed in prompts),
    )


def messages_size(data: dict[str, Any]) -> tuple[int, bool]:
    """Tokens of `messages` and whether they hold DOOM."""
    return _size(_turns(data, "messages"))


def inputs(value: Any, param: str) -> list[str | list[int]]:
    """One or several prompts, each a text or token ids, in any of the forms OpenAI has."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise ApiError(400, f"{param} must be a text, token ids, or a list of either", param, "invalid_value")
    if all(_is_token(one) for one in value):
        return [value]
    for one in value:
        if not isinstance(one, str) and not (isinstance(one, list) and one and all(map(_is_token, one))):
            raise ApiError(400, f"{param} holds what is neither text nor token ids", param, "invalid_value")
    return value


def size(prompt: str | list[int]) -> int:
    """Length of one prompt, tokens."""
    return max(1, len(prompt) // CHARACTERS_PER_TOKEN) if isinstance(prompt, str) else len(prompt)


def _prompts(route: Route, data: dict[str, Any]) -> list[tuple[int, bool]]:
    if route == "completion":
        given = inputs(data.get("prompt"), "prompt")
        return [(size(one), isinstance(one, str) and DOOM in one) for one in given]
    if route == "chat batch":
        conversations = data.get("messages")
        if not isinstance(conversations, list) or not conversations:
            raise ApiError(400, "messages must be a list of conversations", "messages", "missing_messages")
        return [messages_size({**data, "messages": one}) for one in conversations]
    if route == "response":
        if isinstance(data.get("input"), str):
            return [_size(iter([data["input"], data.get("instructions") or ""]))]
        return [_size(_turns(data, "input"))]
    return [messages_size(data)]


def _constraint(data: dict[str, Any]) -> str | None:
    """The field that says what the answer must look like; None where it is free."""
    text, choice = data.get("text"), data.get("tool_choice")
    formats = {"response_format": data.get("response_format"), "text": text.get("format") if _is_object(text) else None}
    for name, wanted in formats.items():
        if _is_object(wanted) and wanted.get("type", "text") != "text":
            return name
    if choice == "required" or (_is_object(choice) and choice.get("type") not in ("auto", "none")):
        return "tool_choice"
    return "structured_outputs" if data.get("structured_outputs") is not None else None


def _turns(data: dict[str, Any], param: str) -> Iterator[str | int]:
    """The texts of a conversation, and the token counts of its images."""
    turns = data.get(param)
    if not isinstance(turns, list) or not turns:
        raise ApiError(400, f"{param} must be a list with at least one entry", param, "missing_messages")
    for name in ("system", "instructions"):
        yield from _parts(data.get(name), name)
    for i, turn in enumerate(turns):
        if not isinstance(turn, dict) or (param == "messages" and not isinstance(turn.get("role"), str)):
            raise ApiError(400, f"{param}[{i}] must be an object with a role", f"{param}[{i}]", "invalid_value")
        yield from _parts(turn.get("content"), f"{param}[{i}].content")


def _parts(content: Any, where: str) -> Iterator[str | int]:
    if content is None:
        return
    if isinstance(content, str):
        yield content
        return
    if not isinstance(content, list):
        raise ApiError(400, f"{where} must be a text or a list of parts", where, "invalid_value")
    for i, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str | None):
            raise ApiError(400, f"{where}[{i}].type must be a text", f"{where}[{i}].type", "invalid_value")
        if kind in _IMAGE_PARTS:
            yield IMAGE_TOKENS
        elif kind in _TEXT_PARTS:
            text = part.get("refusal" if kind == "refusal" else "text")
            if not isinstance(text, str):
                raise ApiError(400, f"{where}[{i}] has no text", f"{where}[{i}]", "invalid_value")
            yield text
        elif not isinstance(part, dict):
            raise ApiError(400, f"{where}[{i}] must be an object with a type", f"{where}[{i}]", "invalid_value")


def _size(pieces: Iterator[str | int]) -> tuple[int, bool]:
    characters, images, doomed = 0, 0, False
    for piece in pieces:
        if isinstance(piece, int):
            images += piece
        else:
            characters += len(piece)
            doomed = doomed or DOOM in piece
    return max(1, characters // CHARACTERS_PER_TOKEN) + images, doomed


def _output_tokens(route: Route, data: dict[str, Any]) -> tuple[int, bool]:
    for name in _MAX_TOKENS_FIELDS[route]:
        if data.get(name) is not None:
            return _whole(data, name, 1), True
    return DEFAULT_OUTPUT_TOKENS, False


def _whole(data: dict[str, Any], name: str, least: int, most: int | None = None) -> int:
    value = data[name]
    if not _is_token(value) or value < least or (most is not None and value > most):
        limits = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ApiError(400, f"{name} must be a whole number, {limits}; got {value!r}", name, "invalid_value")
    return value


def _flag(data: dict[str, Any], name: str) -> bool:
    """As pydantic takes it for vLLM: "true", "on" and 1 are true."""
    try:
        return bool(_FLAG.validate_python(data.get(name)))
    except pydantic.ValidationError:
        raise ApiError(400, f"{name} must be true or false", name, "invalid_value") from None


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
