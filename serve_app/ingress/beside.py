"""Requests for a deployment beside the models, such as the Batch API's: passed on to its one replica, bodies streamed
both ways.

Pages, not the hot path.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from urllib.parse import quote

import aiohttp
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from yarl import URL

from serve_app.http.errors import ApiError
from serve_app.ingress.authentication import owner_of
from serve_app.replica.protocol import KEY_HEADER, TOKEN_HEADER
from serve_app.routing.forward import DROPPED_RESPONSE_HEADERS
from serve_app.routing.pool import ReplicaPool

KEPT_REQUEST_HEADERS = ("content-type", "accept", "range", "if-none-match", "x-request-id")
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5)

logger = logging.getLogger("ray.serve")


class Beside:
    """Forwards to the one replica of a deployment."""

    def __init__(
        self,
        pool: ReplicaPool,
        session: aiohttp.ClientSession,
        *,
        name: str,
        code: str,
        most: int,
        too_large: Callable[[], ApiError],
    ) -> None:
        """`name` is what people call the deployment, `code` that of the error where it does not answer. A body has
        `most` bytes at most; `too_large` is what one of more gets."""
        self._pool = pool
        self._session = session
        self._name, self._code = name, code
        self._most, self._too_large = most, too_large

    async def forward(self, request: Request) -> Response:
        """The deployment's answer. Raises ApiError."""
        body = _BoundedBody(request, self._most, self._too_large)
        replica = await self._pool.acquire()
        try:
            headers = {name: request.headers[name] for name in KEPT_REQUEST_HEADERS if name in request.headers}
            answer = await self._session.request(
                request.method,
                # As it came: with `..` in it, it is no other path and leads to none of the replica's own pages.
                URL(replica.info.url + quote(request.scope["path"]), encoded=True),
                params=request.query_params,
                headers={**headers, **_of_key(request), TOKEN_HEADER.decode(): replica.info.token},
                data=body.pieces() if request.method in ("POST", "PUT", "PATCH") else None,
                timeout=TIMEOUT,
            )
        except (aiohttp.ClientError, OSError) as error:
            if body.refusal is not None:
                raise body.refusal from None
            id = request.headers.get("x-request-id", "")
            logger.warning("%s does not answer request %s: %s", self._name, id, error)
            message = f"{self._name} does not answer; send the request again"
            raise ApiError(503, message, code=self._code, retry_after_s=5) from None
        finally:
            self._pool.release(replica)
        response = StreamingResponse(_pieces(answer), answer.status)
        headers_back = ((name.lower(), value) for name, value in answer.raw_headers)
        response.raw_headers = [one for one in headers_back if one[0] not in DROPPED_RESPONSE_HEADERS]
        return response


def _of_key(request: Request) -> dict[str, str]:
    """Whose request it is, as the deployment is told."""
    name = owner_of(request.scope).name
    return {KEY_HEADER.decode(): name} if name else {}


class _BoundedBody:
    """A request's body as it comes, as long as it is not too large."""

    def __init__(self, request: Request, most: int, too_large: Callable[[], ApiError]) -> None:
        """Raises ApiError 413 where the request says already that it is."""
        self._request = request
        self._most = most
        self._too_large = too_large
        self.refusal: ApiError | None = None
        """Why the body was not read to its end."""
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise self._too_large()

    async def pieces(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for piece in self._request.stream():
                size += len(piece)
                if size > self._most:
                    raise self._too_large()
                yield piece
        except ApiError as refusal:
            self.refusal = refusal
            raise


async def _pieces(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with answer:
        async for piece in answer.content.iter_any():
            yield piece
