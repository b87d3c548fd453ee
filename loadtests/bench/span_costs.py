"""`python -m loadtests.bench.span_costs`: what traces cost the processes that a request goes through, in microseconds.

Measured is what is done for a request beside its way, in one thread: by who routes it, and by its replica; and what the
thread that sends spans takes of the same processes, later.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import Tracer
from starlette.types import Receive, Scope, Send

from serve_app.replica.ledger import Account, Ledger
from serve_app.routing.body import RequestBody
from serve_app.routing.claim import Claim
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from serve_app.routing.request import RoutedRequest
from serve_app.tracing.replica import TracedReplica
from serve_app.tracing.requests import RequestTracer

REQUESTS = 5_000
ROUNDS = 5
PATH = "/v1/chat/completions"
HEADERS = [(b"content-type", b"application/json"), (b"accept", b"*/*"), (b"x-request-id", b"0" * 36)]
SAMPLED = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


class _Kept(SpanProcessor):
    """The spans of the last requests."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)
        del self.spans[:-1000]


async def routed(tracer: Tracer, sample: float) -> float:
    """Of one request, by who routes it."""
    tracing = RequestTracer(tracer, sample)
    scope = {"method": "POST", "path": PATH, "headers": HEADERS}
    request = RoutedRequest(scope, RequestBody(b"{}"), ReplicaPool("m", QueueLimits(8, 1, 1)), Claim())
    replica: Any = SimpleNamespace(id="r", info=SimpleNamespace(url="http://10.0.0.1:20000"))
    outcome: Any = SimpleNamespace(status=200, broken=False, first_byte_s=0.1)

    async def one() -> None:
        if (trace := tracing.begin(request)) is not None:
            with trace.attempt(replica, 0):
                pass
            trace.end(outcome, None)

    return await _timed(one)


async def served(tracer: Tracer, *headers: tuple[bytes, bytes]) -> float:
    """Of one request, by its replica, an application that does nothing taken off."""
    ledger = Ledger("m")

    async def nothing(scope: Scope, receive: Receive, send: Send) -> None: ...

    app = TracedReplica(nothing, tracer, "m")
    scope = {"type": "http", "method": "POST", "path": PATH, "headers": [*HEADERS, *headers]}
    unused: Any = None

    async def one() -> None:
        with ledger.account(Account("", status=200, first_byte_at=1.0)):
            await app(scope, unused, unused)

    async def without() -> None:
        with ledger.account(Account("", status=200, first_byte_at=1.0)):
            await nothing(scope, unused, unused)

    return await _timed(one) - await _timed(without)


async def _timed(one: Callable[[], Any]) -> float:
    """Microseconds of one call: the median of some rounds."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(REQUESTS):
            await one()
        rounds.append((time.perf_counter() - began) / REQUESTS * 1e6)
    return statistics.median(rounds)


def encoded(spans: list[ReadableSpan]) -> float:
    """Of one span, by the thread that sends it."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        encode_spans(spans).SerializeToString()
        rounds.append((time.perf_counter() - began) / len(spans) * 1e6)
    return statistics.median(rounds)


async def main() -> int:
    kept = _Kept()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(kept)
    tracer = provider.get_tracer("costs")
    for sample in (0.01, 1.0):
        print(f"routing, {sample:.0%} sampled: {await routed(tracer, sample):.1f} us a request")
    print(f"a replica, a request that is not traced: {await served(tracer):.1f} us")
    print(f"a replica, a request that is: {await served(tracer, SAMPLED):.1f} us")
    print(f"to encode a span: {encoded(kept.spans):.1f} us")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
