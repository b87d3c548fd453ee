"""Request bodies: bounded in size, in the time they take, and in the memory that all of a process's take together."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import cast

from starlette.types import Message, Receive, Scope

from serve_app.http.errors import ApiError
from serve_app.routing.body import RequestBody
from serve_app.routing.head import ClientGone, header

PATIENCE_S = 15.0
"""In each stretch as long as this, LEAST_BYTES of a body arrive or the rest of it."""
LEAST_BYTES = 2**17
SMALL_BYTES = 2**20
SMALL_SHARE = 0.25
"""Of the memory for bodies, what those of up to SMALL_BYTES have to themselves."""


class TimedReceive:
    """ASGI's `receive`, which gives up on a body that does not come: raises ApiError 408.

    Only the time spent waiting for the client counts, not what its reader takes between two calls. Once the body is
    complete there is no limit.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left_s = PATIENCE_S
        self._arrived = 0
        self._complete = False

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(self._left_s):
                message = await self._receive()
        except TimeoutError:
            raise ApiError(408, _too_slow(), code="request_timeout") from None
        self._complete = not message.get("more_body", False)
        self._left_s -= clock() - began
        self._arrived += len(message.get("body", b""))
        if self._arrived >= LEAST_BYTES:
            self._left_s, self._arrived = PATIENCE_S, 0
        return message


class BodyReader:
    """Reads the bodies of a process's requests, and counts what they hold together until each is released."""

    def __init__(self, max_body_bytes: int, max_buffered_bytes: int) -> None:
        self._most_each = max_body_bytes
        self._most = max_buffered_bytes
        self.held = 0
        """Bytes of all bodies that have been read, at least in part, and are not released."""
        self._spare: dict[RequestBody, None] = {}
        """Those that make way, the oldest first."""

    async def read(self, scope: Scope, receive: Receive) -> RequestBody:
        """The whole body, to be released. Raises ApiError 413 as soon as it is known to be too large, 408 when it does
        not come, 503 when the process holds too much already; ClientGone."""
        length = header(scope["headers"], b"content-length")
        if length.isdecimal() and (len(length) > len(str(self._most_each)) or int(length) > self._most_each):
            raise self._too_large()
        data: bytes | bytearray = b""
        held = 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunk = message.get("body", b"")
                if len(data) + len(chunk) > self._most_each:
                    raise self._too_large()
                self._take(len(chunk), held + len(chunk) <= SMALL_BYTES)
                held += len(chunk)
                if not data:
                    data = chunk
                else:
                    # It grows in place; pieces that are joined would all be there twice.
                    data = data if isinstance(data, bytearray) else bytearray(data)
                    data += chunk
                if not message.get("more_body", False):
                    # Nobody changes it.
                    return RequestBody(cast(bytes, data), partial(self._released, held), self._spared)
        except BaseException:
            self._give_back(held)
            raise

    def _take(self, size: int, small: bool) -> None:
        """Count `size` bytes; raises ApiError 503 where there is no room for them."""
        most = self._most * (1.0 if small else 1 - SMALL_SHARE)
        while self.held + size > most and self._spare:
            next(iter(self._spare)).release()
        if self.held + size > most:
            message = (
                "this ingress process holds as many request bodies as it may (ingress.max_buffered_mib): try again"
            )
            raise ApiError(503, message, code="bodies_full", retry_after_s=2)
        self.held += size

    def _spared(self, body: RequestBody) -> None:
        self._spare[body] = None

    def _released(self, size: int, body: RequestBody) -> None:
        self._spare.pop(body, None)
        self._give_back(size)

    def _give_back(self, size: int) -> None:
        self.held -= size

    def _too_large(self) -> ApiError:
        limit = self._most_each / 2**20
        message = f"the request body is over {limit:g} MiB (ingress.max_body_mib): send less, or smaller images"
        return ApiError(413, message, code="body_too_large")


def _too_slow() -> str:
    return (
        f"the request's body did not come: send at least {LEAST_BYTES // 1024} KiB, or the rest of it,"
        f" within {PATIENCE_S:g} s"
    )
