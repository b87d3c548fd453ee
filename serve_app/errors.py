"""OpenAI's error schema, as bytes ready to send.

https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from starlette.types import Send

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    499: "client_closed_request",
    502: "upstream_error",
    503: "service_unavailable_error",
}


@dataclass
class ApiError(Exception):
    """An answer to a client in OpenAI's error schema."""

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

    def __str__(self) -> str:
        return f"{self.status}: {self.message}"

    @property
    def body(self) -> bytes:
        """`{"error": {...}}` as JSON."""
        kind = _TYPES.get(self.status, "api_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Response headers in ASGI's form."""
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(self.body)).encode())]
        if self.retry_after_s is not None:
            headers.append((b"retry-after", str(self.retry_after_s).encode()))
        return headers

    async def answer(self, send: Send, *extra_headers: tuple[bytes, bytes]) -> None:
        """Send it as the whole answer of an ASGI application."""
        await send({"type": "http.response.start", "status": self.status, "headers": [*self.headers, *extra_headers]})
        await send({"type": "http.response.body", "body": self.body})
