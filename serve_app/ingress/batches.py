"""/v1/files and /v1/batches: passed on to the batch deployment, bodies streamed both ways.

A page, not the hot path: an upload may be a thousand times as large as a request to a model, and comes rarely.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from urllib.parse import quote

import aiohttp
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from yarl import URL

from serve_app.http.errors import ApiError
from serve_app.ingress.authentication import owner_of
from serve_app.replica.protocol import KEY_HEADER, TOKEN_HEADER
from serve_app.routing.forward import DROPPED_RESPONSE_HEADERS
from serve_app.routing.pool import ReplicaPool

PATHS = ("/v1/files", "/v1/files/{rest:path}", "/v1/batches", "/v1/batches/{rest:path}")
METHODS = ["GET", "POST", "DELETE", "PUT", "PATCH"]
KEPT_REQUEST_HEADERS = ("content-type", "accept", "range", "x-request-id")
FORM_BYTES = 2**20
"""What a multipart body may hold beside its file."""
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5)

logger = logging.getLogger("ray.serve")


class BatchApi:
    """Forwards to the one replica of the batch deployment; without it says how to have one."""

    def __init__(self, pool: ReplicaPool | None, session: aiohttp.ClientSession, max_file_bytes: int) -> None:
        self._pool = pool
        self._session = session
        self._max_bytes = max_file_bytes + FORM_BYTES

    def routes(self) -> list[Route]:
        return [Route(path, self._forward, methods=METHODS) for path in PATHS]

    async def _forward(self, request: Request) -> Response:
        if self._pool is None:
            message = "the Batch API is off: set `batch: {directory: PATH}` in the service's configuration"
            raise ApiError(404, message, code="batch_api_off")
        body = _BoundedUpload(request, self._max_bytes)
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
            logger.warning("the batch deployment does not answer request %s: %s", id, error)
            message = "the batch deployment does not answer; send the request again"
            raise ApiError(503, message, code="batch_api_not_ready", retry_after_s=5) from None
        finally:
            self._pool.release(replica)
        response = StreamingResponse(_pieces(answer), answer.status)
        headers_back = ((name.lower(), value) for name, value in answer.raw_headers)
        response.raw_headers = [one for one in headers_back if one[0] not in DROPPED_RESPONSE_HEADERS]
        return response


def _of_key(request: Request) -> dict[str, str]:
    """Whose request it is, as the batch deployment is told."""
    name = owner_of(request.scope).name
    return {KEY_HEADER.decode(): name} if name else {}


class _BoundedUpload:
    """A request's body as it comes, as long as it is not too large."""

    def __init__(self, request: Request, most: int) -> None:
        """Raises ApiError 413 where the request says already that it is."""
        self._request = request
        self._most = most
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

    def _too_large(self) -> ApiError:
        limit = (self._most - FORM_BYTES) / 2**20
        message = f"the upload is over {limit:g} MiB (batch.max_file_mib): send it in parts"
        return ApiError(413, message, "file", "file_too_large")


async def _pieces(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with answer:
        async for piece in answer.content.iter_any():
            yield piece
