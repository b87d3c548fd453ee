"""One error schema at a replica: whatever vLLM's application answers, raises or puts into a stream.

ASGI middleware right inside admission control. An answer without an error passes as it comes; of a stream only the
beginning of each event is looked at.

- An error answer is written anew in the schema of its route, in this service's words, bounded in size.
- A stream starts with its first event: one whose first event is an error is an error answer, with a status.
- A stream that fails later ends with its route's error event and without [DONE]. Where the engine has died the
  connection is broken off instead, and the ingress writes the event.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.engine.faults import INTERNAL, Progress, error_response, progress
from serve_app.engine.wording import code_of, field_of, reworded
from serve_app.http.errors import ApiError

STREAM_ERRORS = (b'data: {"error"', b"event: error\n")
"""How vLLM begins an event that is an error; no other event begins so."""

logger = logging.getLogger("ray.serve")


class OneSchema:
    """`failure` says why the engine is dead; None while it lives."""

    def __init__(self, app: ASGIApp, failure: Callable[[], str | None]) -> None:
        self._app = app
        self._failure = failure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _ErrorsRewritten(scope["path"], send, self._failure)
        progress.set(Progress())
        try:
            await self._app(scope, receive, answer)
        except Exception as error:
            await answer.raised(error)


class _ErrorsRewritten:
    """What the application sends, on its way out."""

    def __init__(self, path: str, send: Send, failure: Callable[[], str | None]) -> None:
        self._path = path
        self._send = send
        self._failure = failure
        self._head: Message | None = None
        """Held back until it is known whether an error follows."""
        self._begun = False
        self._error_body: list[bytes] | None = None
        """Of an answer with a status of 400 or more, until it is complete."""
        self._streams = False
        self._ended = False

    async def __call__(self, message: Message) -> None:
        if self._ended:
            return
        if message["type"] == "http.response.start":
            await self._start(message)
        elif self._error_body is not None:
            self._error_body.append(message.get("body", b""))
            if not message.get("more_body", False):
                await self._error_answer(b"".join(self._error_body))
        elif self._streams and message.get("body", b"").startswith(STREAM_ERRORS):
            await self._fail(_from_event(message["body"]))
        else:
            if self._head is not None:
                await self._begin(self._head)
                self._head = None
            self._ended = not message.get("more_body", False)
            await self._send(message)

    async def raised(self, error: Exception) -> None:
        """An exception that nobody answered, or that came after its answer."""
        if self._ended:
            return
        told = error_response(error).error
        await self._fail(_api_error(told.code, told.message, told.param))

    async def _start(self, message: Message) -> None:
        self._streams = _header(message, b"content-type").startswith(b"text/event-stream")
        if message["status"] >= 400:
            self._head, self._error_body = message, []
        elif self._streams:
            self._head = message
        else:
            await self._begin(message)

    async def _begin(self, head: Message) -> None:
        self._begun = True
        await self._send(head)

    async def _error_answer(self, body: bytes) -> None:
        assert self._head is not None
        self._ended = True
        error = _from_body(self._head["status"], body)
        if after := _header(self._head, b"retry-after"):
            error.retry_after_s = int(after) if after.isdigit() else error.retry_after_s
        await error.answer(self._path, self._send)

    async def _fail(self, error: ApiError) -> None:
        """End the answer, begun or not, with an error."""
        self._ended = True
        if not self._begun:
            await error.answer(self._path, self._send)
        elif self._streams and self._failure() is None:
            await self._send({"type": "http.response.body", "body": error.event(self._path), "more_body": False})


def _from_event(event: bytes) -> ApiError:
    """What an error event of vLLM's says."""
    data = _json(event.partition(b"data: ")[2])
    error = data.get("error") if isinstance(data, dict) else None
    if isinstance(error, dict) and isinstance(inner := _json(error.get("message", "")), dict):
        error = inner.get("error", error)  # faults.StreamFailed
    if not isinstance(error, dict) or not isinstance(error.get("code"), int):
        return ApiError(500, INTERNAL)
    return _api_error(error["code"], str(error.get("message")), error.get("param"))


def _from_body(status: int, body: bytes) -> ApiError:
    """What an error answer says, in whichever of the schemas that vLLM and FastAPI have."""
    data = _json(body)
    error = data.get("error", data.get("detail")) if isinstance(data, dict) else None
    if not isinstance(error, dict):
        error = {"message": error if isinstance(error, str) else body.decode(errors="replace")}
    code = error.get("code")
    return _api_error(
        status, str(error.get("message", "")), error.get("param"), code if isinstance(code, str) else None
    )


def _api_error(status: int, message: str, param: Any = None, code: str | None = None) -> ApiError:
    if status == 501:
        status, code = 400, code or "unsupported"
    if status == 500:
        return ApiError(500, INTERNAL)
    text = reworded(message) or f"the engine answered {status}"
    retry_after_s = 1 if status == 503 else None
    field = str(param) if param else field_of(message)
    return ApiError(status, text, field, code or code_of(message), retry_after_s)


def _json(data: bytes | str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _header(message: Message, name: bytes) -> bytes:
    return next((value for key, value in message.get("headers", ()) if key.lower() == name), b"")
