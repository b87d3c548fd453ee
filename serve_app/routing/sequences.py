"""How many sequences a request is: `n` answers to each of its prompts, which are what an engine's batch holds.

`n`, `prompt`, `input` and `messages` mean the same on every route that has them, so the route is not asked. What is
scored and ranked has a name of its own on each. Where a field is not what it should be, one is counted: the engine
refuses such a request.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from serve_app.http import json_bytes
from serve_app.http.errors import ApiError
from serve_app.routing.head import RequestHead, read_fields

_ABSENT = msgspec.Raw()
_COUNTED = 2**12
"""Prompts of one request are counted up to so many, or to the bound where that is higher."""
_MOST_ANSWERS = 2**31
"""A larger `n` is counted as this; no engine takes it."""
_SEVERAL = re.compile(rb"\[[ \t\r\n]*[\"\[]")
"""How a list begins that is several prompts."""
_RANKED = ("documents", "queries", "items", "text_1", "text_2", "data_1", "data_2")
LISTS = {
    "/generative_scoring": ("items",),
    "/v2/embed": ("texts", "images", "inputs"),
    **dict.fromkeys(("/score", "/v1/score", "/rerank", "/v1/rerank", "/v2/rerank"), _RANKED),
}
"""Fields of a route that are as many sequences as they have elements, of any type."""


_lists: dict[str, msgspec.json.Decoder[Any]] = {
    path: msgspec.json.Decoder(msgspec.defstruct("_Lists", [(name, msgspec.Raw, _ABSENT) for name in names]))
    for path, names in LISTS.items()
}


def count(body: bytes, path: str = "") -> int:
    """Sequences of the request with this body, 1 where it cannot be read. Prompts beyond 4,096 are not counted."""
    try:
        head = RequestHead() if path in LISTS else read_fields(body)
    except json_bytes.UNREADABLE:
        return 1
    return _count(head, body, path, _COUNTED)


def bounded(head: RequestHead, body: bytes, most: int, path: str = "") -> int:
    """Sequences of the request with this head and body; raises ApiError 400 if they are more than `most`."""
    found = _count(head, body, path, max(most, _COUNTED))
    if found <= most:
        return found
    message = (
        f"this request is {found} sequences, n for each prompt, and one may be {most} (max_sequences): ask for fewer "
        "answers, or send the prompts in several requests"
    )
    raise ApiError(400, message, param=_param(head, body, most, path), code="too_many_sequences")


def _count(head: RequestHead, body: bytes, path: str, most: int) -> int:
    """`prompt` and `input` are one prompt as a text, as token ids and as the turns of a conversation, and several as a
    list of texts or of lists of ids; `messages` is several where it is a list of conversations."""
    if path in LISTS:
        return max(_length(field, most) for field in msgspec.structs.astuple(_read(_lists[path], body)))
    return _answers(head.n) * max(_prompts(field, most) for field in (head.prompt, head.input, _conversations(head)))


def _conversations(head: RequestHead) -> msgspec.Raw:
    """The messages of a body where they may be several conversations."""
    return head.messages if isinstance(head.messages, msgspec.Raw) else _ABSENT


def _param(head: RequestHead, body: bytes, most: int, path: str) -> str:
    """The field that is to blame."""
    if path in LISTS:
        lists = _read(_lists[path], body)
        return max(LISTS[path], key=lambda name: _length(getattr(lists, name), most))
    if _answers(head.n) > 1:
        return "n"
    fields = {"prompt": head.prompt, "input": head.input, "messages": _conversations(head)}
    return next(name for name, field in fields.items() if _prompts(field, most) > 1)


def _read(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        try:
            return decoder.decode(body)
        except msgspec.DecodeError:
            return decoder.decode(json_bytes.plain(body))
    except json_bytes.UNREADABLE:
        return decoder.type()


def _answers(raw: msgspec.Raw) -> int:
    """`n` as pydantic reads it: also a text or a float that is a whole number."""
    if not memoryview(raw):
        return 1
    try:
        value = msgspec.json.decode(raw)
        number = float(value) if isinstance(value, int | float | str) else 1.0
    except (*json_bytes.UNREADABLE, ValueError, OverflowError):
        return 1
    return 1 if math.isnan(number) else int(min(_MOST_ANSWERS, max(1.0, number)))


def _prompts(raw: msgspec.Raw, most: int) -> int:
    """Prompts in a field, counted up to one more than `most`."""
    return 1 if _SEVERAL.match(raw) is None else _length(raw, most)


def _length(raw: msgspec.Raw, most: int) -> int:
    """Elements of a list, counted up to one more than `most`; 1 for anything else."""
    try:
        return max(1, len(json_bytes.first(raw, most + 1)))
    except json_bytes.UNREADABLE:
        return 1
