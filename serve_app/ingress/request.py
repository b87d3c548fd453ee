"""The head of a request: its body, bounded, and the few fields routing needs.

msgspec reads past the fields not named below, and raw ones, without building them: 0.2 ms a megabyte, and the
body is forwarded as the bytes that came.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
from starlette.types import Receive, Scope

from serve_app.errors import ApiError

Headers = Iterable[tuple[bytes, bytes]]

_ABSENT = msgspec.Raw()


class Turn(msgspec.Struct):
    """One message of a conversation. Chat templates render any role, so a wrong one is caught here."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: msgspec.Raw = _ABSENT


class Head(msgspec.Struct):
    """What the ingress reads of a body; what is raw is a view of it."""

    model: str | None = None
    stream: bool | None = None
    messages: list[Turn] | None = None
    prompt: msgspec.Raw = _ABSENT
    input: msgspec.Raw = _ABSENT
    system: msgspec.Raw = _ABSENT
    instructions: msgspec.Raw = _ABSENT
    tools: msgspec.Raw = _ABSENT
    prompt_cache_key: msgspec.Raw = _ABSENT


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


_decoder = msgspec.json.Decoder(Head)


def header(headers: Headers, name: bytes) -> str:
    """A header's value, empty if absent. `name` and the headers' names are lower case."""
    for key, value in headers:
        if key == name:
            return str(value, "latin-1")
    return ""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body; raises ApiError 413 as soon as it is known to exceed `limit` bytes."""
    length = header(scope["headers"], b"content-length")
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def read_head(scope: Scope, body: bytes) -> Head:
    """Model and stream flag; raises ApiError 400 for what is not a JSON object, 415 for another content type."""
    kind = header(scope["headers"], b"content-type").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(
            415,
            f"the content type is {kind or 'missing'!r}: send 'Content-Type: application/json'",
            code="content_type",
        )
    if not body:
        raise ApiError(400, "the request has no body: send a JSON object", code="invalid_json")
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError as error:
        field = str(error).rpartition("$.")[2].rstrip("`") if "$." in str(error) else None
        raise ApiError(400, f"invalid request body: {error}", param=field, code="invalid_value") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, f"the request body is not valid JSON: {error}", code="invalid_json") from None


def _too_large(limit: int) -> ApiError:
    message = f"the request body is over {limit / 2**20:g} MiB (ingress.max_body_mib): send less, or smaller images"
    return ApiError(413, message, code="body_too_large")
