"""Bodies whose prompt cannot fit in the model's context are refused as the bytes they are.

What comes after, the engine's own reading of a body and its check, holds up every stream of the replica: half a second
for a million numbers. Texts, token ids and messages are therefore measured here first, at 0.2 ms a megabyte. Small
bodies cost nothing anywhere and pass unseen.
"""

from __future__ import annotations

import re
from collections import deque

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.engine.context import Context, size
from serve_app.http import json_bytes
from serve_app.http.errors import ApiError

SMALL_BYTES = 2**16
"""Bodies up to here are not looked at."""
MOST_TURNS = 2**14
"""Messages, and parts of their contents, of one request at most; fewer where the context has fewer tokens."""
MOST_BESIDE_BYTES = 2**21
"""All fields together that hold no prompt: tools, schemas, parameters."""
TRUNCATED = 8
"""Contexts of token ids that may be sent where they are truncated."""
_ABSENT = msgspec.Raw()
_ID = re.compile(rb"\[[ \t\r\n]*(?:\[[ \t\r\n]*)?-?\d")
"""How a list of token ids begins, and a list of such lists."""


class _Body(msgspec.Struct):
    """The fields that may hold a prompt."""

    prompt: msgspec.Raw = _ABSENT
    input: msgspec.Raw = _ABSENT
    tokens: msgspec.Raw = _ABSENT
    messages: msgspec.Raw = _ABSENT
    system: msgspec.Raw = _ABSENT
    instructions: msgspec.Raw = _ABSENT
    prompt_embeds: msgspec.Raw = _ABSENT
    truncate_prompt_tokens: msgspec.Raw = _ABSENT


class _ConversationTurn(msgspec.Struct):
    content: msgspec.Raw = _ABSENT


_body = msgspec.json.Decoder(_Body)
_turn = msgspec.json.Decoder(_ConversationTurn)
_text = msgspec.json.Decoder(str)


class Bounds:
    """ASGI middleware in front of an engine's application."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or _length(scope) <= SMALL_BYTES:
            await self._app(scope, receive, send)
            return
        kept: deque[Message] = deque()
        while not kept or kept[-1].get("more_body", False):
            kept.append(await receive())
        try:
            check(b"".join(message.get("body", b"") for message in kept), self._context)
        except ApiError as error:
            await error.answer(scope["path"], send)
            return

        async def again() -> Message:
            return kept.popleft() if kept else await receive()

        await self._app(scope, again, send)


def check(body: bytes, context: Context) -> None:
    """Raise ApiError 400 for a body whose prompt cannot fit. What cannot be read is the engine's to judge."""
    try:
        try:
            read = _body.decode(body)
        except msgspec.DecodeError:
            read = _body.decode(json_bytes.plain(body))
    except json_bytes.UNREADABLE:
        return
    beside = len(body) - sum(len(memoryview(field)) for field in msgspec.structs.astuple(read))
    if beside > MOST_BESIDE_BYTES:
        message = f"the fields beside the prompt are {beside} bytes, of at most {MOST_BESIDE_BYTES}: send less"
        raise ApiError(400, message, code="body_too_large")
    truncated = bytes(memoryview(read.truncate_prompt_tokens)) not in (b"", b"null")
    for name in ("prompt", "input", "tokens"):
        field = getattr(read, name)
        _check_ids(name, field, context, TRUNCATED if truncated else 1)
        if not truncated:
            _check_text(name, field, context)
    for name in ("messages", "input"):
        _check_turns(name, getattr(read, name), context)


def _length(scope: Scope) -> int:
    """Of the body; unknown ones are taken for long."""
    said = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(said) if said.isdigit() else SMALL_BYTES + 1


def _check_ids(name: str, field: msgspec.Raw, context: Context, contexts: int) -> None:
    if _ID.match(field):
        raw = bytes(memoryview(field))
        ids, prompts = raw.count(b",") + 1, max(1, raw.count(b"[") - 1)
        if ids > contexts * context.tokens * prompts:
            raise ApiError(400, context.too_many(ids), name, "context_length_exceeded")


def _check_text(name: str, field: msgspec.Raw, context: Context) -> None:
    if bytes(memoryview(field)[:1]) != b'"':
        return
    try:
        text = _text.decode(field)
    except json_bytes.UNREADABLE:
        return
    if size(text) > context.bytes:
        message = context.too_long(context.at_most, len(text))
        raise ApiError(400, message, name, "context_length_exceeded")


def _check_turns(name: str, field: msgspec.Raw, context: Context) -> None:
    """Turns and parts are counted together; texts and images are not: templates may leave some out."""
    most = min(MOST_TURNS, context.tokens)
    if bytes(memoryview(field)).count(b"{") <= most:
        return
    try:
        turns = json_bytes.first(field, most + 1)
        found = len(turns)
        for turn in turns:
            content = _turn.decode(turn).content
            if found <= most and bytes(memoryview(content)[:1]) == b"[":
                found += len(json_bytes.first(content, most + 1))
    except json_bytes.UNREADABLE:
        return
    if found > most:
        message = f"{name} has more than {most} turns and parts of turns: send fewer, joined together"
        raise ApiError(400, message, name, "context_length_exceeded")
