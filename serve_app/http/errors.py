"""The one way to answer an error: OpenAI's schema, or Anthropic's on the routes that are theirs.

https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Send

from serve_app.http.dialects import dialect, to_json

MOST_CHARACTERS = 2000
"""Of a message; what a client sent may be quoted in it."""


@dataclass
class ApiError(Exception):
    """An answer to a client. `path` below is the request's, which decides the schema."""

    status: int
    """HTTP status."""
    message: str
    """What was wrong, where, and what to do."""
    param: str | None = None
    """The request field it is about."""
    code: str | None = None
    """A stable machine-readable reason."""
    retry_after_s: int | None = None
    """Sent as Retry-After."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Sent as well."""

    def __post_init__(self) -> None:
        self.message = shortened(self.message, MOST_CHARACTERS)
        self.param = self.param and shortened(self.param, MOST_CHARACTERS // 10)

    def __str__(self) -> str:
        return f"{self.status}: {self.message}"

    @property
    def body(self) -> bytes:
        """`{"error": {...}}` as JSON, OpenAI's schema."""
        return self.rendered("")

    def rendered(self, path: str) -> bytes:
        """As the JSON of an answer."""
        return to_json(dialect(path).error(self.status, self.message, self.param, self.code))

    def event(self, path: str) -> bytes:
        """As a server-sent event, which ends a stream that has begun."""
        return dialect(path).event(self.status, self.message, self.param, self.code)

    def response(self, path: str = "") -> Response:
        """As a Starlette response."""
        response = Response(self.rendered(path), self.status, media_type="application/json")
        if self.retry_after_s is not None:
            response.headers["retry-after"] = str(self.retry_after_s)
        response.raw_headers.extend(self.headers)
        return response

    async def answer(self, path: str, send: Send, *extra_headers: tuple[bytes, bytes]) -> None:
        """Send it as the whole answer of an ASGI application."""
        response = self.response(path)
        headers = [*response.raw_headers, *extra_headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})


def shortened(text: str, most: int) -> str:
    """Its two ends where it has more characters."""
    if len(text) <= most:
        return text
    half = (most - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"
