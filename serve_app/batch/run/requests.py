"""One line of a batch's input as a request: read, checked, and given the batch's priority.

https://platform.openai.com/docs/guides/batch: a line is an object of `custom_id`, `method`, `url` and `body`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection
from typing import Any, Literal

import msgspec

from serve_app.http.json_bytes import UNREADABLE, explained

MOST_LINE_BYTES = 64 * 2**20
"""A longer line is an error of its own, and is skipped without being held in memory."""
ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
"""What a line's `url` may be."""
SHOWN = 100
"""Characters of a name that a message repeats."""


class BadLine(Exception):
    """A line that cannot be sent; the text says why."""

    def __init__(self, code: str, reason: str, custom_id: str | None) -> None:
        super().__init__(reason)
        self.code = code
        """A stable machine-readable reason."""
        self.custom_id = custom_id
        """If it could be read."""


class RequestLine(msgspec.Struct):
    """A line as OpenAI's batch format has it."""

    custom_id: str
    method: Literal["POST"]
    url: str
    body: msgspec.Raw


class _AnyModel(msgspec.Struct):
    model: Any = None


class _AnyNames(msgspec.Struct):
    """What `names` reads of a line whose other fields may be of any kind."""

    custom_id: Any = None
    body: _AnyModel | None = None


class _AnyId(msgspec.Struct):
    custom_id: Any = None


class _CheckedFields(msgspec.Struct):
    """What is read of a request's body; the rest is the engine's to judge."""

    model: str
    priority: int | None = None
    stream: bool | None = None


_line = msgspec.json.Decoder(RequestLine)
_names = msgspec.json.Decoder(_AnyNames)
_id = msgspec.json.Decoder(_AnyId)
_fields = msgspec.json.Decoder(_CheckedFields)
_begins = re.compile(rb'\s*\{\s*"custom_id"\s*:\s*"[^"\\]*(?:\\.[^"\\]*)*"')
"""A line that cannot be read to its end, up to its `custom_id`."""


def names(data: bytes | None) -> tuple[str | None, str | None]:
    """A line's `custom_id` and its model, as far as it has them, however wrong the rest of it is.

    `data` is None for a line over MOST_LINE_BYTES.
    """
    try:
        line = _names.decode(data or b"")
        model = line.body.model if line.body else None
    except UNREADABLE:
        return custom_id(data), None
    return _text(line.custom_id), _text(model)


def custom_id(data: bytes | None) -> str | None:
    """A line's `custom_id`, if it has one, however wrong the rest of it is."""
    data = data or b""
    try:
        return _text(_id.decode(data).custom_id)
    except UNREADABLE:
        found = _begins.match(data)
    with contextlib.suppress(*UNREADABLE):
        return _text(_id.decode(found[0] + b"}").custom_id) if found else None
    return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def parse(
    data: bytes | None, models: Collection[str] | None, priority: int, routes: Collection[str] = ROUTES
) -> RequestLine:
    """The request of a line, its body with `priority` unless it has its own. Raises BadLine.

    `data` is None for a line over MOST_LINE_BYTES. `models` are the names that are served; None where they are not
    known. `routes` are what its `url` may be.
    """
    if data is None:
        raise BadLine("line_too_long", f"the line is over {MOST_LINE_BYTES // 2**20} MiB", None)
    try:
        line = _line.decode(data)
    except UNREADABLE as error:
        code = "invalid_request" if isinstance(error, msgspec.ValidationError) else "invalid_json"
        raise BadLine(code, explained(error), custom_id(data)) from None
    if not line.custom_id:
        raise BadLine("invalid_request", "custom_id is empty", None)
    if line.url not in routes:
        raise BadLine("invalid_url", f"url is {line.url[:SHOWN]!r}: use {' or '.join(sorted(routes))}", line.custom_id)
    try:
        fields = _fields.decode(line.body)
    except UNREADABLE as error:
        raise BadLine("invalid_request", f"{explained(error)} of the body", line.custom_id) from None
    if fields.priority is not None and fields.priority < 0:
        reason = f"priority is {fields.priority}: a batch goes before nobody, so it is 0 or more"
        raise BadLine("invalid_request", reason, line.custom_id)
    if fields.stream:
        raise BadLine("invalid_request", "stream is not for batches: leave it out of the body", line.custom_id)
    if models is not None and fields.model not in models:
        served = ", ".join(sorted(models))
        reason = f"the model {fields.model[:SHOWN]!r} is not served; there is {served}"
        raise BadLine("model_not_found", reason, line.custom_id)
    body = bytes(line.body)
    if priority and fields.priority is None:
        body = b'{"priority":%d,%b' % (priority, body[body.index(b"{") + 1 :])
    return RequestLine(line.custom_id, line.method, line.url, msgspec.Raw(body))
