"""The hot path: one request to one replica, and its answer back as the bytes that come.

Nothing is parsed in between. While no byte has gone to the client, a replica that refuses or breaks is left
behind and the request goes to another one.
"""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send

from serve_app.http.errors import ApiError
from serve_app.replica.protocol import DEAD, DIED, REFUSED_HEADER, SEQUENCES_HEADER, TOKEN_HEADER
from serve_app.routing.body import RequestBody
from serve_app.routing.head import ClientGone, header
from serve_app.routing.metrics import ObservedRequest
from serve_app.routing.picker import Key
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.replica import Replica
from serve_app.routing.retry import BrokenOff, Refused, with_retries
from serve_app.routing.upstream import Upstream, UpstreamError

DROPPED_RESPONSE_HEADERS = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"date", b"server"})
"""Of one connection alone, or set anew by the server towards the client."""


class Forwarder:
    """Carries requests to the replicas of a pool over kept-alive connections."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def __call__(
        self,
        scope: Scope,
        receive: Receive | None,
        send: Send,
        body: RequestBody,
        pool: ReplicaPool,
        seen: ObservedRequest,
        key: Key | None = None,
        sequences: int = 1,
    ) -> None:
        """Answer the request, of so many sequences; raises ApiError while nothing has been sent, ClientGone when nobody
        listens.

        `receive` tells when the client has gone; None if it never goes. The scope's headers go to the replica as they
        are: see `headers.for_replica`.
        """
        if receive is None:
            await self._with_retries(scope, send, body, pool, seen, key, sequences)
            return
        work = asyncio.ensure_future(self._with_retries(scope, send, body, pool, seen, key, sequences))
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

    async def _with_retries(
        self,
        scope: Scope,
        send: Send,
        body: RequestBody,
        pool: ReplicaPool,
        seen: ObservedRequest,
        key: Key | None,
        sequences: int,
    ) -> None:
        async def attempt(replica: Replica) -> None:
            try:
                await self._once(scope, send, body, replica, seen, sequences)
            except UpstreamError as broken:
                if broken.answered:
                    raise BrokenOff(str(broken)) from broken
                raise Refused(DIED if broken.connected else DEAD) from broken

        try:
            await with_retries(pool, attempt, key, seen.retried, sequences)
        except BrokenOff as broken:
            await _break_off(scope["path"], send, seen, str(broken))

    async def _once(
        self, scope: Scope, send: Send, body: RequestBody, replica: Replica, seen: ObservedRequest, sequences: int
    ) -> None:
        headers = [*scope["headers"], (TOKEN_HEADER, replica.info.token.encode())]
        if sequences > 1:
            headers.append((SEQUENCES_HEADER, b"%d" % sequences))
        answer = await self._upstream.request(scope["method"], replica.info.url, scope["path"], headers, body.data)
        try:
            if refusal := header(answer.headers, REFUSED_HEADER):
                raise Refused(refusal)
            body.release()
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
