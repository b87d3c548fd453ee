"""/v1/files and /v1/batches: passed on to the batch deployment.

An upload may be a thousand times as large as a request to a model, and comes rarely.
"""

from __future__ import annotations

import aiohttp
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve_app.http.errors import ApiError
from serve_app.ingress.beside import Beside
from serve_app.routing.pool import ReplicaPool

PATHS = ("/v1/files", "/v1/files/{rest:path}", "/v1/batches", "/v1/batches/{rest:path}")
METHODS = ["GET", "POST", "DELETE", "PUT", "PATCH"]
FORM_BYTES = 2**20
"""What a multipart body may hold beside its file."""


class BatchApi:
    """Without a batch deployment says how to have one."""

    def __init__(self, pool: ReplicaPool | None, session: aiohttp.ClientSession, max_file_bytes: int) -> None:
        self._beside: Beside | None = None
        if pool is not None:
            self._beside = Beside(
                pool,
                session,
                name="the batch deployment",
                code="batch_api_not_ready",
                most=max_file_bytes + FORM_BYTES,
                too_large=lambda: _too_large(max_file_bytes),
            )

    def routes(self) -> list[Route]:
        return [Route(path, self._forward, methods=METHODS) for path in PATHS]

    async def _forward(self, request: Request) -> Response:
        if self._beside is None:
            message = "the Batch API is off: set `batch: {directory: PATH}` in the service's configuration"
            raise ApiError(404, message, code="batch_api_off")
        return await self._beside.forward(request)


def _too_large(most: int) -> ApiError:
    message = f"the upload is over {most / 2**20:g} MiB (batch.max_file_mib): send it in parts"
    return ApiError(413, message, "file", "file_too_large")
