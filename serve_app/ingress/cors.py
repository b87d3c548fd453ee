"""Browsers: which pages' scripts may call, by the Fetch standard's CORS headers."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from serve_app.http.errors import ApiError

METHODS = ("GET", "POST", "DELETE", "PUT", "PATCH")
SEEN_HEADERS = (
    "retry-after",
    "x-request-id",
    *(f"x-ratelimit-{what}-{of}" for of in ("requests", "tokens") for what in ("limit", "remaining", "reset")),
)
"""What a script may read of an answer beside what every script may."""


def for_origins(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """`app` for scripts of pages from these origins too, `*` for any; as it is where there are none.

    Preflight requests are answered here, before anybody asks for an API key, which browsers do not send with them.
    """
    if not origins:
        return app
    return _Cors(app, allow_origins=origins, allow_methods=METHODS, allow_headers=["*"], expose_headers=SEEN_HEADERS)


class _Cors(CORSMiddleware):
    """Refuses in the service's error schema."""

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        origin = request_headers["origin"]
        refusal = ApiError(
            400, f"{bytes(response.body).decode()}: {origin!r} is to be listed in ingress.cors", code="cors"
        ).response()
        refusal.raw_headers += [one for one in response.raw_headers if one[0].startswith((b"access-control", b"vary"))]
        return refusal
