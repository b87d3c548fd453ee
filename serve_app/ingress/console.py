"""/console: passed on to the console's deployment, a process of its own that no request to a model meets."""

from __future__ import annotations

import aiohttp
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve_app.http.errors import ApiError
from serve_app.ingress.beside import Beside
from serve_app.routing.pool import ReplicaPool

PATHS = ("/console", "/console/{rest:path}")
METHODS = ["GET", "POST", "DELETE"]
MOST_BYTES = 2**16
"""Of what the page sends to the console itself. A chat goes where every client's goes."""


class ConsoleRoutes:
    """Without a console says what would switch it on."""

    def __init__(self, pool: ReplicaPool | None, session: aiohttp.ClientSession) -> None:
        self._beside: Beside | None = None
        if pool is not None:
            self._beside = Beside(
                pool, session, name="the console", code="console_not_ready", most=MOST_BYTES, too_large=_too_large
            )

    def routes(self) -> list[Route]:
        return [Route(path, self._forward, methods=METHODS) for path in PATHS]

    async def _forward(self, request: Request) -> Response:
        if self._beside is None:
            message = "the console is off: `ingress.console` is false in the service's configuration"
            raise ApiError(404, message, code="console_off")
        return await self._beside.forward(request)


def _too_large() -> ApiError:
    return ApiError(413, f"the body is over {MOST_BYTES} bytes", code="body_too_large")
