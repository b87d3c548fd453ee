"""A header that Ray Serve cannot read is its sender's error.

A replica that answers HTTP itself, as Serve's have it with HAProxy (2.60), decodes some headers of each request as
UTF-8 before the application sees it, and answers 500 where one of them is not. Serve's Python proxy does so in a
process of its own, which this does not reach.
"""

from __future__ import annotations

from typing import Any

from ray.serve._private.replica import Replica
from starlette.types import Receive, Scope, Send

from serve_app.http.errors import ApiError

READ = frozenset(
    {
        b"x-request-id",
        b"x-session-id",
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        b"serve-multiplexed-model-id",
    }
)
"""What Serve reads; it takes `_` for `-`."""


def refuse_unreadable() -> None:
    """From now on, in this process: 400 for requests with such a header. To be called before Serve starts to listen,
    in the application's constructor."""
    answer = Replica._direct_ingress_asgi

    async def checked(replica: Any, scope: Scope, receive: Receive, send: Send) -> None:
        if name := next(
            (name for name, value in scope["headers"] if not value.isascii() and _fails(name, value)), None
        ):
            message = f"the header {name.decode()} holds bytes that are not UTF-8"
            await ApiError(400, message, name.decode(), "invalid_header").answer(scope["path"], send)
        else:
            await answer(replica, scope, receive, send)

    Replica._direct_ingress_asgi = checked


def _fails(name: bytes, value: bytes) -> bool:
    if name.replace(b"_", b"-") not in READ:
        return False
    try:
        value.decode()
    except UnicodeDecodeError:
        return True
    return False
