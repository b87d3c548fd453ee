"""Request bodies come no faster than they are read.

Ray Serve reads a request on its own, to notice a client that goes away, and puts what comes into a queue without a
bound: an upload that its reader is slower to pass on than the client to send piles up in the ingress, all of it in the
end. With a bound the wait reaches uvicorn, from there HAProxy and the client. Serve's Python proxy, which is used
without HAProxy, has a queue of its own that this does not reach.
"""

from __future__ import annotations

import asyncio

from ray.serve._private.constants import RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD
from ray.serve._private.direct_ingress_http_util import ASGIDIReceiveProxy

MESSAGES = 8
"""Of a request's that wait to be read: of at most about 320 KiB each, uvicorn's high-water mark and one read."""


def bound_queues() -> None:
    """Of all requests of this process, where the application runs on Serve's own event loop: from another thread Serve
    does not wait for room in the queue."""
    if not RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD:
        ASGIDIReceiveProxy.queue = property(_queue)


def _queue(proxy: ASGIDIReceiveProxy) -> asyncio.Queue:
    if proxy._queue is None:
        proxy._queue = asyncio.Queue(MESSAGES)
    return proxy._queue
