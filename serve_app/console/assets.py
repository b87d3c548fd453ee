"""GET /console and what it loads: this package's own files and the chart library, which a Python package brings.

Nothing comes from another host, and the browser is told to see to that.
"""

from __future__ import annotations

import base64
import hashlib
import mimetypes
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve_app.http.errors import ApiError

OWN = Path(__file__).parent / "static"
CHARTS = {"uplot.js": "vendor/uplot.iife.min.js", "uplot.css": "vendor/uplot.min.css"}
"""uPlot's own release of 1.6.31, where the package `youplot` has it."""
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Content-Security-Policy: no script but from here, no request but to here, in no other page's frame."""
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    # A new version is seen at once; what has not changed is answered with 304.
    "cache-control": "no-cache",
}


class Assets:
    """Static files, held in memory."""

    def routes(self) -> list[Route]:
        return [Route("/console", self._page), Route("/console/{name}", self._file)]

    async def _page(self, request: Request) -> Response:
        return _answer(request, "index.html")

    async def _file(self, request: Request) -> Response:
        return _answer(request, request.path_params["name"])


def _answer(request: Request, name: str) -> Response:
    if (body := _read(name)) is None:
        raise ApiError(404, f"the console has no file {name!r}", code="unknown_route")
    tag = f'"{digest(body)}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={**HEADERS, "etag": tag})
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(body, media_type=kind, headers={**HEADERS, "etag": tag})


@cache
def _read(name: str) -> bytes | None:
    """A file of the page; None where there is none."""
    path = _of_charts(CHARTS[name]) if name in CHARTS else OWN / name if name in _own_names() else None
    return None if path is None else path.read_bytes()


@cache
def _own_names() -> frozenset[str]:
    return frozenset(path.name for path in OWN.iterdir())


def _of_charts(path: str) -> Path | None:
    """In the chart library's package, which is looked for and not imported; None where it is not installed."""
    found = find_spec("youplot")
    if found is None or found.origin is None:
        return None
    file = Path(found.origin).parent / path
    return file if file.exists() else None


def digest(body: bytes) -> str:
    """As Subresource Integrity writes it."""
    return "sha384-" + base64.b64encode(hashlib.sha384(body).digest()).decode()
