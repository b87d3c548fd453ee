"""Which request a line of the log is about."""

from __future__ import annotations

import logging
from contextvars import ContextVar

from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.replica.protocol import ANSWER_ID_HEADER, REQUEST_ID

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that is being served, as its client knows it."""
trace_id: ContextVar[str] = ContextVar("trace_id", default="")
"""Of its trace, hexadecimal, where it is traced."""


class Identified:
    """ASGI middleware: what is logged within it is about its request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        request_id.set(headers.get(ANSWER_ID_HEADER, headers.get(REQUEST_ID, b"")).decode("latin-1"))
        await self._app(scope, receive, send)


class OfRequest(logging.Filter):
    """Gives each record the request it is about, when it is made: it may be written later, by whoever comes next."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id, record.trace_id = request_id.get(), trace_id.get()
        return True
