"""Answers of chat, completions and embeddings, in the shapes and field order of vLLM's.

A stream's bytes are rendered once per request but for the token itself: a chunk is three byte strings joined.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import struct
import time
from collections.abc import Sequence
from typing import Any, Protocol
from uuid import uuid4

from serve_app.engine.continuing import telling
from serve_app.engine.simulation.requests import Ask

EMBEDDING_SIZE = 64
_TEXTS: list[bytes] = []
DONE = b"data: [DONE]\n\n"


def token(index: int) -> bytes:
    """The text of an output's token: `tok0`, then ` tok1`, ` tok2`..."""
    while index >= len(_TEXTS):
        _TEXTS.append(f" tok{len(_TEXTS)}".encode() if _TEXTS else b"tok0")
    return _TEXTS[index]


def text(tokens: int) -> str:
    """An output of that many tokens."""
    return b"".join(token(index) for index in range(tokens)).decode()


def new_id() -> str:
    """For an answer or a part of it: random, unless a router may go on with the answer elsewhere."""
    one = telling.get()
    return uuid4().hex if one is None else one.next_id()


def created() -> int:
    """When the present request came, seconds since the epoch."""
    one = telling.get()
    return int(time.time()) if one is None else one.identity.began


def embedding(prompt: str | list[int]) -> list[float]:
    """A unit vector that depends on the prompt alone."""
    digest = hashlib.shake_128(json.dumps(prompt).encode()).digest(EMBEDDING_SIZE)
    centred = [byte - 127.5 for byte in digest]
    length = math.hypot(*centred)
    return [value / length for value in centred]


def base64_floats(vector: list[float]) -> str:
    """OpenAI's `encoding_format: base64`: little-endian float32."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def embeddings(model: str, vectors: Sequence[list[float] | str], tokens: int) -> dict[str, Any]:
    """The answer of /v1/embeddings to inputs of that many tokens in all."""
    data = [{"index": i, "object": "embedding", "embedding": vector} for i, vector in enumerate(vectors)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}
    head = {"id": f"embd-{uuid4().hex}", "object": "list", "created": int(time.time())}
    return {**head, "model": model, "data": data, "usage": usage}


class Dialect(Protocol):
    """One API's way to say the same thing."""

    def __init__(self, ask: Ask) -> None: ...
    def opening(self) -> bytes:
        """What goes before the first token."""

    def token(self, choice: int, index: int) -> bytes:
        """A token that is not an output's last."""

    def last(self, choice: int, index: int) -> bytes:
        """An output's last token."""

    def closing(self, lengths: list[int]) -> bytes:
        """What goes after all outputs, given their tokens."""

    def whole(self, lengths: list[int]) -> dict[str, Any]:
        """The answer to a request that does not stream."""


class _Chunked:
    """Chat and text completions: chunks that differ in their choices."""

    prefix: str
    name: str
    chunk: str

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.id = f"{self.prefix}-{new_id()}"
        self.created = created()
        self._choices = range(len(ask.prompts) * ask.choices)
        ends = [self._ends(choice) for choice in self._choices]
        self._heads = [head for head, _, _ in ends]
        self._tails = [tail for _, tail, _ in ends]
        self._last_tails = [tail for _, _, tail in ends]

    def token(self, choice: int, index: int) -> bytes:
        return self._heads[choice] + token(index) + self._tails[choice]

    def last(self, choice: int, index: int) -> bytes:
        return self._heads[choice] + token(index) + self._last_tails[choice]

    def closing(self, lengths: list[int]) -> bytes:
        if not self.ask.include_usage:
            return DONE
        return self._chunk([], usage=self._usage(lengths)) + DONE

    def whole(self, lengths: list[int]) -> dict[str, Any]:
        choices = [
            self._choice(choice, text(length)) | {"logprobs": None, "finish_reason": self.ask.finish_reason}
            for choice, length in enumerate(lengths)
        ]
        usage = {**self._usage(lengths), "prompt_tokens_details": None}
        return self._envelope(self.name, choices) | {"usage": usage}

    def _choice(self, choice: int, content: str) -> dict[str, Any]:
        raise NotImplementedError

    def _stream_choice(self, choice: int, finish: str | None) -> dict[str, Any]:
        raise NotImplementedError

    def _ends(self, choice: int) -> tuple[bytes, bytes, bytes]:
        head, tail = self._chunk([self._stream_choice(choice, None)]).rsplit(b"@", 1)
        last_tail = self._chunk([self._stream_choice(choice, self.ask.finish_reason)]).rsplit(b"@", 1)[1]
        return head, tail, last_tail

    def _envelope(self, name: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        head = {"id": self.id, "object": name, "created": self.created}
        return {**head, "model": self.ask.model, "choices": choices}

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return sse_data(self._envelope(self.chunk, choices) | more)

    def _usage(self, lengths: list[int]) -> dict[str, int]:
        prompt, output = self.ask.prompt_tokens, sum(lengths)
        return {"prompt_tokens": prompt, "total_tokens": prompt + output, "completion_tokens": output}


class Chat(_Chunked):
    """/v1/chat/completions."""

    prefix, name, chunk = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def opening(self) -> bytes:
        delta = {"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        return b"".join(
            self._chunk([{"index": choice, **delta}], prompt_token_ids=None, prompt_text=None)
            for choice in self._choices
        )

    def _choice(self, choice: int, content: str) -> dict[str, Any]:
        return {"index": choice, "message": {"role": "assistant", "content": content, "refusal": None}}

    def _stream_choice(self, choice: int, finish: str | None) -> dict[str, Any]:
        end: dict[str, Any] = {"logprobs": None, "finish_reason": finish}
        if finish is not None:
            end["stop_reason"] = None
        return {"index": choice, "delta": {"content": "@"}, **end, "token_ids": None}


class Completion(_Chunked):
    """/v1/completions."""

    prefix, name, chunk = "cmpl", "text_completion", "text_completion"

    def opening(self) -> bytes:
        return b""

    def _choice(self, choice: int, content: str) -> dict[str, Any]:
        return {"index": choice, "text": content}

    def _stream_choice(self, choice: int, finish: str | None) -> dict[str, Any]:
        end = {"logprobs": None, "finish_reason": finish, "stop_reason": None}
        return {"index": choice, "text": "@", **end, "prompt_token_ids": None, "token_ids": None}


def to_json(value: dict[str, Any]) -> bytes:
    """Compact, as vLLM writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def sse_data(value: dict[str, Any]) -> bytes:
    """A nameless server-sent event."""
    return b"data: " + to_json(value) + b"\n\n"


def sse_event(value: dict[str, Any]) -> bytes:
    """A server-sent event named as its type."""
    return b"event: " + value["type"].encode() + b"\n" + sse_data(value)
