"""The hot path: one request to one replica, and its answer back as the bytes that come.

Nothing is parsed in between. While no byte has gone to the client, a replica that refuses or breaks is left
behind and the request goes to another one.
"""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Send

from serve_app.http.errors import ApiError
from serve_app.replica.protocol import DEAD, DIED, REFUSED_HEADER, SEQUENCES_HEADER, TOKEN_HEADER
from serve_app.routing.head import ClientGone, header
from serve_app.routing.metrics import ObservedRequest
from serve_app.routing.replica import Replica
from serve_app.routing.request import RoutedRequest
from serve_app.routing.retry import BrokenOff, Refused, with_retries
from serve_app.routing.upstream import Upstream, UpstreamError

DROPPED_RESPONSE_HEADERS = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"date", b"server"})
"""Of one connection alone, or set anew by the server towards the client."""


class Forwarder:
    """Carries requests to the replicas of a pool over kept-alive connections."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def __call__(
        self, request: RoutedRequest, receive: Receive | None, send: Send, seen: ObservedRequest
    ) -> None:
        """Answer the request; raises ApiError while nothing has been sent, ClientGone when nobody listens.

        `receive` tells when the client has gone; None if it never goes.
        """
        if receive is None:
            await self._with_retries(request, send, seen)
            return
        work = asyncio.ensure_future(self._with_retries(request, send, seen))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientGone
            await work
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    async def _with_retries(self, request: RoutedRequest, send: Send, seen: ObservedRequest) -> None:
        async def attempt(replica: Replica) -> None:
            try:
                await self._once(request, send, replica, seen)
            except UpstreamError as broken:
                if broken.answered:
                    raise BrokenOff(str(broken)) from broken
                raise Refused(DIED if broken.connected else DEAD) from broken

        try:
            await with_retries(request.pool, attempt, request.claim, seen.retried)
        except BrokenOff as broken:
            await _break_off(request.scope["path"], send, seen, str(broken))

    async def _once(self, request: RoutedRequest, send: Send, replica: Replica, seen: ObservedRequest) -> None:
        seen.given()
        scope, sequences = request.scope, request.claim.sequences
        headers = [*scope["headers"], (TOKEN_HEADER, replica.info.token.encode())]
        if sequences > 1:
            headers.append((SEQUENCES_HEADER, b"%d" % sequences))
        answer = await self._upstream.request(
            scope["method"], replica.info.url, scope["path"], headers, request.body.data
        )
        try:
            if refusal := header(answer.headers, REFUSED_HEADER):
                raise Refused(refusal)
            request.body.release()
            seen.started(answer.status, header(answer.headers, b"content-type").partition(";")[0])
            kept = [one for one in answer.headers if one[0] not in DROPPED_RESPONSE_HEADERS]
            await send({"type": "http.response.start", "status": answer.status, "headers": kept})
            while chunk := await answer.read():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                seen.sent(len(chunk))
        finally:
            answer.close()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _break_off(path: str, send: Send, seen: ObservedRequest, reason: str) -> None:
    """End an answer that cannot be completed so that the client sees it is not complete.

    An event stream ends with its route's error event and without [DONE]; anything else by breaking the connection.
    """
    seen.broke_off()
    if not seen.event_stream:
        raise ConnectionError(reason)
    error = ApiError(502, "the replica serving this stream failed; send the request again", code="replica_failed")
    # It may have been cut off inside an event.
    await send({"type": "http.response.body", "body": b"\n\n" + error.event(path), "more_body": False})
