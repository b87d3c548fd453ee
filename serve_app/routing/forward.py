"""The hot path: one request to one replica, and its answer back as the bytes that come.

Nothing is parsed in between. A replica that refuses or breaks is left behind and the request goes to another one: while
no byte has gone to the client, and after that where it is a stream with which another one can go on.
"""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Send

from serve_app.http.errors import ApiError
from serve_app.http.model_routes import MODEL_ROUTES
from serve_app.replica.protocol import (
    DEAD,
    DIED,
    LIGHT_HEADER,
    PLACES_HEADER,
    REFUSED_HEADER,
    REPLICA_HEADER,
    SEQUENCES_HEADER,
    TOKEN_HEADER,
    USED_HEADER,
    WAITED_HEADER,
)
from serve_app.replica.said import CONTINUABLE_HEADER
from serve_app.routing.continuation import Continuation
from serve_app.routing.head import ClientGone, Headers, header
from serve_app.routing.losses import Losses
from serve_app.routing.metrics import LossCause, ObservedRequest
from serve_app.routing.replica import Replica
from serve_app.routing.request import RoutedRequest
from serve_app.routing.retry import BrokenOff, Lost, Refused, with_retries
from serve_app.routing.upstream import Upstream, UpstreamError

DROPPED_RESPONSE_HEADERS = frozenset(
    {b"connection", b"keep-alive", b"transfer-encoding", b"date", b"server", CONTINUABLE_HEADER, USED_HEADER}
)
"""Of one connection alone, or set anew by the server towards the client."""


class Forwarder:
    """Carries requests to the replicas of a pool over kept-alive connections."""

    def __init__(self, upstream: Upstream, continue_bytes: int = 0) -> None:
        """`continue_bytes` are kept at most of each open stream, to go on with it if its replica is lost."""
        self._upstream = upstream
        self._continue_bytes = continue_bytes
        self._losses = Losses()

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
        generates = MODEL_ROUTES.get(request.scope["path"]) == "generate"
        going = Continuation(request.body, self._continue_bytes if generates else 0)

        async def attempt(replica: Replica, places: int | None) -> None:
            asked = [] if places is None else [(PLACES_HEADER, b"%d" % places)]
            if seen.trace is None:
                await tried(replica, [*request.scope["headers"], *asked])
            else:
                with seen.trace.attempt(replica, going.events) as headers:
                    await tried(replica, [*headers, *asked])

        async def tried(replica: Replica, headers: Headers) -> None:
            try:
                await self._once(request, headers, send, replica, seen, going)
            except UpstreamError as broken:
                if not seen.begun:
                    raise Refused(DIED if broken.connected else DEAD, told=False) from broken
                if not going.possible:
                    raise BrokenOff(str(broken)) from broken
                cause: LossCause = "engine" if going.engine_died else "silence" if broken.silent else "connection"
                seen.continued(cause)
                self._losses.lost(request.pool.model, replica.id, str(broken))
                raise Lost(told=cause == "engine") from broken

        try:
            await with_retries(request.pool, attempt, request.claim, seen.retried)
        except BrokenOff as broken:
            await _break_off(request.scope["path"], send, seen, str(broken))
        except ApiError as error:
            if not seen.begun:
                raise
            await _break_off(request.scope["path"], send, seen, error.message)

    async def _once(
        self,
        request: RoutedRequest,
        own: Headers,
        send: Send,
        replica: Replica,
        seen: ObservedRequest,
        going: Continuation,
    ) -> None:
        scope, sequences = request.scope, request.claim.sequences
        more, body = going.request()
        waited = (WAITED_HEADER, b"%.4f" % seen.given())
        headers = [*own, (TOKEN_HEADER, replica.info.token.encode()), waited, *more]
        if sequences > 1:
            headers.append((SEQUENCES_HEADER, b"%d" % sequences))
        if request.pool.shares.is_light(request.claim):
            headers.append((LIGHT_HEADER, b"1"))
        answer = await self._upstream.request(scope["method"], replica.info.url, scope["path"], headers, body)
        try:
            if refusal := header(answer.headers, REFUSED_HEADER):
                raise Refused(refusal)
            marked = bool(header(answer.headers, CONTINUABLE_HEADER))
            if not seen.begun:
                if marked:
                    request.body.spare()
                else:
                    going.give_up()
                seen.started(answer.status, header(answer.headers, b"content-type").partition(";")[0])
                kept = [one for one in answer.headers if one[0] not in DROPPED_RESPONSE_HEADERS]
                kept.append((REPLICA_HEADER, replica.id.encode()))
                await send({"type": "http.response.start", "status": answer.status, "headers": kept})
            elif not marked:
                raise BrokenOff(f"another replica answered {answer.status}")
            while chunk := await answer.read():
                if marked and not (chunk := going.take(chunk)):
                    continue
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                seen.sent(len(chunk))
            used = going.used if marked else header(answer.headers, USED_HEADER)
        finally:
            answer.close()
        if used:
            request.pool.shares.settle(request.claim, int(used))
        request.body.release()
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
