"""Tells the router what an answer has said, and goes on with one that another replica has begun.

ASGI middleware around an engine's application. What was said is put into the engine's hands through `telling`: the
engine produces it once more, to bring the application to where it was, and the events that the client has already are
left out on their way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.replica.ledger import current
from serve_app.replica.said import (
    BETWEEN,
    CONTINUABLE_HEADER,
    DIED,
    EVENT_END,
    MARK,
    SAID_HEADER,
    STOP,
    USED,
    End,
    Identity,
    Output,
    Said,
)


class Telling:
    """One answer of which the router wants to know what it is made of."""

    def __init__(self, identity: Identity, said: Said | None) -> None:
        self.identity = identity
        self.said = said
        """What another replica has said of it; None where it begins here."""
        self._told: list[bytes] = []
        self._begun = self._stopped = False
        self._ids = 0

    def begin(self) -> bool:
        """False where an engine has been asked before on behalf of this request: what is told would be of two."""
        first, self._begun = not self._begun, True
        return first

    def tell(self, tokens: Sequence[int], end: End | None = None, logprobs: list[Any] | None = None) -> None:
        """The application is given such an `Output` to make events of."""
        if not self._stopped:
            alone = len(tokens) == 1 and end is None and logprobs is None
            self._told.append(b"%d" % tokens[0] if alone else bytes(Output(tuple(tokens), end, logprobs)))

    def stop(self) -> None:
        """This answer cannot be continued elsewhere."""
        if not self._stopped:
            self._stopped = True
            self._told[:] = [STOP]

    def mark(self) -> bytes:
        """What was told since the last call, as a mark; empty where nothing was."""
        told = self._told
        if not told:
            return b""
        said = told[0] if len(told) == 1 else BETWEEN.join(told)
        told.clear()
        return b"%b%b\n" % (MARK, said)

    def next_id(self) -> str:
        """In place of a random number, 16 hexadecimal digits: the next of those that follow from the identity."""
        self._ids += 1
        return hashlib.blake2b(f"{self.identity.name} {self._ids}".encode(), digest_size=8).hexdigest()


telling: ContextVar[Telling | None] = ContextVar("telling", default=None)
"""The request's, in the tasks that work on it; None where nobody wants to know."""


class Continuing:
    """`failure` says why the engine is dead; None while it lives."""

    def __init__(self, app: ASGIApp, failure: Callable[[], str | None]) -> None:
        self._app = app
        self._failure = failure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        if CONTINUABLE_HEADER not in headers:
            await self._app(scope, receive, send)
            return
        said = None
        if length := headers.get(SAID_HEADER):
            whole = await _whole(receive)
            if whole is None:
                return
            own = [one for one in scope["headers"] if one[0] not in (b"content-length", SAID_HEADER)]
            scope = {**scope, "headers": [*own, (b"content-length", length)]}
            receive = _again(whole[: int(length)], receive)
            said = Said.read(whole[int(length) :])
        one = Telling(Identity.read(headers[CONTINUABLE_HEADER]), said)
        answer = _Marked(send, one, said.events if said else 0)
        telling.set(one)
        await self._app(scope, receive, answer)
        if answer.open and self._failure() is not None:
            await send({"type": "http.response.body", "body": MARK + DIED + b"\n", "more_body": True})


class _Marked:
    """What the application sends, on its way out: without the events the client has, with marks."""

    def __init__(self, send: Send, one: Telling, events: int) -> None:
        self._send = send
        self._telling = one
        self._had = events
        """Events that the client has and that have not come by yet."""
        self._streams = False
        self.open = False
        """An event stream has begun, and not ended."""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.open = self._streams = any(
                name.lower() == b"content-type" and value.startswith(b"text/event-stream")
                for name, value in message["headers"]
            )
            marked = [(CONTINUABLE_HEADER, b"1")] if self._streams else []
            message = {**message, "headers": [*message["headers"], *marked]}
        elif self._streams:
            self.open = message.get("more_body", False)
            body = message.get("body", b"")
            if self._had:
                body = self._news(body)
            if body:
                message["body"] = self._telling.mark() + body
            elif self.open:
                return
            else:
                message["body"] = b""
            if not self.open and (account := current.get(None)) is not None:
                message["body"] += b"%b%b%d\n" % (MARK, USED, account.used().processed)
        await self._send(message)

    def _news(self, body: bytes) -> bytes:
        """What of these events the client does not have."""
        events = body.count(EVENT_END)
        if events <= self._had:
            self._had -= events
            return b""
        for _ in range(self._had):
            body = body.partition(EVENT_END)[2]
        self._had = 0
        return body


async def _whole(receive: Receive) -> bytes | None:
    """All that the client sends; None where it leaves before."""
    pieces: list[bytes] = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        more = message.get("more_body", False)
        pieces.append(message.get("body", b""))
    return b"".join(pieces)


def _again(body: bytes, receive: Receive) -> Receive:
    """What the application receives: the body in one piece, and then what else comes."""
    message: Message | None = {"type": "http.request", "body": body, "more_body": False}

    async def receive_again() -> Message:
        nonlocal message
        if message is not None:
            first, message = message, None
            return first
        return await receive()

    return receive_again
