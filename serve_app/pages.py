"""A Starlette application whose errors come in OpenAI's schema."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve_app.errors import ApiError


def answering(routes: Sequence[Route]) -> Starlette:
    """Answers these routes, and everything else with an error."""
    app = Starlette(
        routes=routes, exception_handlers={HTTPException: _http_error, ApiError: _api_error, Exception: _unexpected}
    )
    app.router.redirect_slashes = False
    return app


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return _response(
            ApiError(405, f"{request.method} is not allowed on {path}; allowed: {allowed}", code="method_not_allowed")
        )
    if error.status_code == 404:
        return _response(ApiError(404, f"there is no {path} here; /docs lists what there is", code="unknown_route"))
    return _response(ApiError(error.status_code, str(error.detail)))


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _response(error)


async def _unexpected(request: Request, error: Exception) -> Response:
    return _response(ApiError(500, "the service failed on this request; its log says why"))


def _response(error: ApiError) -> Response:
    response = Response(error.body, error.status)
    response.raw_headers = error.headers
    return response
