"""The head of a request: the few fields of its body that routing needs.

The engine is who judges a body; here it is read no further than routing needs, and refused only where it cannot be
routed. msgspec reads past the fields not named below, and raw ones, without building them: 0.3 ms a MiB of texts, 8 at
the worst, 19 where all of it is what msgspec does not know. The body is forwarded as the bytes that came.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from starlette.types import Scope

from serve_app.http import json_bytes
from serve_app.http.errors import ApiError

Headers = Iterable[tuple[bytes, bytes]]

MOST_TURNS = 32
"""Of a conversation that are looked at: what a request shares with others is at its beginning."""
MOST_ID_CHARACTERS = 256
"""Of a request's id, which each chunk of a stream repeats."""

_ABSENT = msgspec.Raw()


class RoutedMessage(msgspec.Struct):
    """One message of a conversation."""

    role: str = ""
    content: msgspec.Raw = _ABSENT


_Turns: Any = msgspec.defstruct(
    "_Turns", [(f"turn_{number}", RoutedMessage | None, None) for number in range(MOST_TURNS)], array_like=True
)
"""The first elements of an array. The others are read past, so that a million of them cost no memory."""


class RequestHead(msgspec.Struct):
    """What routing reads of a body; what is raw is a view of it, and of any type."""

    model: str | None = None
    n: msgspec.Raw = _ABSENT
    messages: Any = None
    """Raw where it is anything but a list of objects: a list of conversations, or what the engine will refuse."""
    prompt: msgspec.Raw = _ABSENT
    input: msgspec.Raw = _ABSENT
    system: msgspec.Raw = _ABSENT
    instructions: msgspec.Raw = _ABSENT
    tools: msgspec.Raw = _ABSENT
    prompt_cache_key: msgspec.Raw = _ABSENT
    session_id: msgspec.Raw = _ABSENT
    request_id: msgspec.Raw = _ABSENT
    priority: msgspec.Raw = _ABSENT

    @property
    def turns(self) -> list[RoutedMessage]:
        """The conversation's first messages; none where they are not a list of objects with a role."""
        if not self.messages or isinstance(self.messages, msgspec.Raw):
            return []
        return [turn for turn in msgspec.structs.astuple(self.messages) if turn]


class _TurnedHead(RequestHead):
    messages: _Turns | None = None


class _RawHead(RequestHead):
    messages: msgspec.Raw = _ABSENT


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


_decoder = msgspec.json.Decoder(_TurnedHead)
_raw_decoder = msgspec.json.Decoder(_RawHead)


def header(headers: Headers, name: bytes) -> str:
    """A header's value, empty if absent. `name` and the headers' names are lower case."""
    for key, value in headers:
        if key == name:
            return str(value, "latin-1")
    return ""


def read_head(scope: Scope, body: bytes) -> RequestHead:
    """What routing needs; raises ApiError 400 for what is not a JSON object or has a model that is not text.

    Another content type than JSON's is the engine's to refuse; 415 here if it names no model either.
    """
    try:
        head = _read(body)
        if head.model is None:
            _check_type(scope)
    except ApiError:
        _check_type(scope)
        raise
    if len(memoryview(head.request_id)) > MOST_ID_CHARACTERS + 2:
        raise id_too_long("request_id")
    return head


def id_too_long(where: str) -> ApiError:
    message = f"{where} is over {MOST_ID_CHARACTERS} characters: send a shorter one, or none"
    return ApiError(400, message, where, "invalid_value")


def _read(body: bytes) -> RequestHead:
    if not body:
        raise ApiError(400, "the request has no body: send a JSON object", code="invalid_json")
    try:
        return read_fields(body)
    except msgspec.ValidationError as error:
        if "$.model" in str(error):
            raise ApiError(400, f"model is not text: {error}", "model", "invalid_value") from None
        raise ApiError(400, f"the request body is not a JSON object: {error}", code="invalid_json") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, f"the request body is not valid JSON: {error}", code="invalid_json") from None
    except RecursionError:
        raise ApiError(400, "the request body is nested too deeply", code="invalid_json") from None


def read_fields(body: bytes) -> RequestHead:
    """The fields of a body in one pass over it, without judging them. Raises one of json_bytes.UNREADABLE."""
    try:
        return _decode(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        return _decode(json_bytes.plain(body))


def _decode(body: bytes) -> RequestHead:
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError as error:
        if "$.messages" not in str(error):
            raise
    return _raw_decoder.decode(body)


def _check_type(scope: Scope) -> None:
    kind = header(scope["headers"], b"content-type").partition(";")[0].strip().lower()
    if kind != "application/json":
        shown = repr(kind[:100]) if kind else "missing"
        message = f"the content type is {shown}: send 'Content-Type: application/json'"
        raise ApiError(415, message, code="content_type")
