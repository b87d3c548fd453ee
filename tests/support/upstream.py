"""The hot path's own client, asked by a test."""

from __future__ import annotations

from serve_app.routing.upstream import Upstream


async def ask(upstream: Upstream, url: str, body: bytes = b"{}") -> bytes:
    """A request's whole answer. Raises UpstreamError."""
    answer = await upstream.request("POST", url, "/v1/x", [(b"accept", b"a/b")], body)
    received = b""
    try:
        while data := await answer.read():
            received += data
    finally:
        answer.close()
    return received
