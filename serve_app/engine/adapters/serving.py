"""A request that is for an adapter has it in its engine's memory, from its beginning to its end."""

from __future__ import annotations

from contextvars import ContextVar

from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.adapters.adapter import Adapter
from serve_app.engine.adapters.loaded import LoadedAdapters
from serve_app.http.errors import ApiError
from serve_app.replica.protocol import ADAPTER_HEADER

current: ContextVar[Adapter | None] = ContextVar("adapter", default=None)
"""The one that the request is for, in the tasks that work on it."""


class WithAdapter:
    """ASGI middleware around an engine's application."""

    def __init__(self, app: ASGIApp, loaded: LoadedAdapters) -> None:
        self._app = app
        self._loaded = loaded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        told = next((value for name, value in scope.get("headers", ()) if name == ADAPTER_HEADER), None)
        if told is None:
            await self._app(scope, receive, send)
            return
        adapter = Adapter.read(told)
        try:
            async with self._loaded.use(adapter):
                current.set(adapter)
                await self._app(scope, receive, send)
        except ApiError as refusal:
            await refusal.answer(scope["path"], send)
