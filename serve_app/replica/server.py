"""The replica's own HTTP server: uvicorn on the node's address, behind a door.

The door lets in only who knows the replica's token, counts the sequences that are open, and refuses what the replica
could not hold. A refusal carries `x-replica-refused`, which tells the ingress that the client has seen nothing
and the request may go elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import socket
from collections import deque
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.http.errors import ApiError
from serve_app.http.model_routes import MODEL_ROUTES
from serve_app.replica.protocol import (
    BATCH_HEADER,
    DEAD,
    DIED,
    DRAINING,
    FULL,
    REFUSED_HEADER,
    SEQUENCES_HEADER,
    TOKEN_HEADER,
)

KEEP_ALIVE_S = 120
"""Above the ingress's own keep-alive, so that the client side closes idle connections first."""

logger = logging.getLogger("ray.serve")


class Door:
    """ASGI middleware: token, capacity, drain, and an honest answer when the engine has died."""

    def __init__(self, app: ASGIApp, token: str, capacity: int, failure: Callable[[], str | None]) -> None:
        self._app = app
        self._token = token.encode()
        self._capacity = capacity
        self._failure = failure
        self._idle = asyncio.Event()
        self._idle.set()
        self._fits = asyncio.Event()
        """Set while the engine holds all that was let in."""
        self._fits.set()
        self.in_flight = 0
        """Sequences that were let in, and have not ended."""
        self.interactive = 0
        self.interactive_begun = 0
        self.accepted = 0
        """Sequences for the engine so far."""
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if not self._knows_token(scope):
            await ApiError(401, "this server answers only its application's ingress").answer("", send)
            return
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        if reason := self._refusal():
            await _refuse(send, reason)
            return
        sequences = self._sequences(scope)
        interactive = 0 if any(name == BATCH_HEADER for name, _ in scope["headers"]) else sequences
        self.in_flight += sequences
        self.interactive += interactive
        self.interactive_begun += interactive
        self.accepted += 0 if MODEL_ROUTES.get(scope["path"]) == "prepare" else sequences
        self._idle.clear()
        try:
            if self.in_flight > self._capacity:
                self._fits.clear()
                receive = await _until(self._fits, receive)
            await self._app(scope, receive, _DeathNotice(send, self._failure))
        except _Gone:
            return
        finally:
            self.in_flight -= sequences
            self.interactive -= interactive
            if self.in_flight <= self._capacity:
                self._fits.set()
            if not self.in_flight:
                self._idle.set()

    async def drain(self, timeout_s: float) -> bool:
        """Refuse new requests and wait for the open ones; False if some were still open in the end."""
        self.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        return not self.in_flight

    def _knows_token(self, scope: Scope) -> bool:
        return any(k == TOKEN_HEADER and hmac.compare_digest(v, self._token) for k, v in scope["headers"])

    def _sequences(self, scope: Scope) -> int:
        said = next((value for name, value in scope["headers"] if name == SEQUENCES_HEADER), b"1")
        return min(int(said), self._capacity)

    def _refusal(self) -> str | None:
        """Why nobody is let in. While there is any room somebody is, who may then have to wait until all of it fits:
        refused for as long as others take the room that comes, a request of many sequences would never get in."""
        if self._failure() is not None:
            return DEAD
        if self.draining:
            return DRAINING
        return FULL if self.in_flight >= self._capacity else None


class _Gone(Exception):
    """The client left while its request waited."""


async def _until(event: asyncio.Event, receive: Receive) -> Receive:
    """Wait for the event; what receives the request from then on. Raises _Gone."""
    kept: deque[Message] = deque()
    came = asyncio.ensure_future(event.wait())
    try:
        while not came.done():
            message = asyncio.ensure_future(receive())
            await asyncio.wait((came, message), return_when=asyncio.FIRST_COMPLETED)
            if not message.done():
                message.cancel()
            elif message.result()["type"] == "http.disconnect":
                raise _Gone
            else:
                kept.append(message.result())
    finally:
        came.cancel()

    async def again() -> Message:
        return kept.popleft() if kept else await receive()

    return again


class _DeathNotice:
    """Turns the engine's 5xx into a refusal when the engine has died, so that the request can go elsewhere."""

    def __init__(self, send: Send, failure: Callable[[], str | None]) -> None:
        self._send = send
        self._failure = failure
        self._replaced = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 500 and self._failure() is not None:
            self._replaced = True
            await _refuse(self._send, DIED)
        elif not self._replaced:
            await self._send(message)


class ReplicaServer:
    """Serves one engine's application over HTTP."""

    def __init__(self, app: ASGIApp, *, token: str, capacity: int, failure: Callable[[], str | None]) -> None:
        self.door = Door(app, token, capacity, failure)
        config = uvicorn.Config(
            self.door,
            http="httptools",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=1,
        )
        self.uvicorn = _QuietServer(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: str) -> str:
        """Listen on a free port of `host`; the base URL."""
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.bind((host, 0))
        port = listener.getsockname()[1]
        self._task = asyncio.create_task(self.uvicorn.serve(sockets=[listener]))
        while not self.uvicorn.started:
            if self._task.done():
                self._task.result()
                raise RuntimeError("the replica's HTTP server ended while it was starting; see its log")
            await asyncio.sleep(0.01)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def stop(self) -> None:
        """Close the listener and what is still open."""
        self.uvicorn.should_exit = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)


class _QuietServer(uvicorn.Server):
    """Leaves the process's signal handlers to Ray."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _refuse(send: Send, reason: str) -> None:
    error = ApiError(503, f"this replica is {reason}", code=f"replica_{reason}", retry_after_s=1)
    await error.answer("", send, (REFUSED_HEADER, reason.encode()))
