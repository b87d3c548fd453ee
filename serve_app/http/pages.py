"""A Starlette application whose errors come in the schema of their route."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve_app.http.errors import ApiError


def starlette_app(routes: Sequence[Route]) -> Starlette:
    """An application that answers these routes, and everything else with an error in the schema of its route."""
    app = Starlette(
        routes=routes, exception_handlers={HTTPException: _http_error, ApiError: _api_error, Exception: _unexpected}
    )
    app.router.redirect_slashes = False
    return app


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        message = f"{request.method} is not allowed on {path}; allowed: {allowed}"
        response = ApiError(405, message, code="method_not_allowed").response(path)
        response.headers["allow"] = allowed
        return response
    if error.status_code == 404:
        message = f"there is no {path} here; /docs lists what there is"
        return ApiError(404, message, code="unknown_route").response(path)
    return ApiError(error.status_code, str(error.detail)).response(path)


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response(request.scope["path"])


async def _unexpected(request: Request, error: Exception) -> Response:
    return ApiError(500, "the service failed on this request; its log says why").response(request.scope["path"])
