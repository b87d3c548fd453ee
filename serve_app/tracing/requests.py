"""A request's trace in the process that routes it: how it waited, and who tried to answer it.

Below the span of the request there is one for each replica that had it, an attempt, and one for each wait for one. A
replica's own span is below that of the attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AnyValue

from serve_app.http.operations import PROVIDER, operation
from serve_app.logs.context import trace_id
from serve_app.replica.protocol import DEAD, DIED, REQUEST_ID
from serve_app.routing.head import ClientGone, header
from serve_app.routing.replica import Replica
from serve_app.routing.request import RoutedRequest
from serve_app.routing.retry import BrokenOff, Lost, Refused
from serve_app.routing.traced import Header, Outcome
from serve_app.tracing.context import below, headers_below, parent, span_context

AT_ONCE_NS = 1_000_000
"""A request that has its replica within this time did not wait for it."""
NANO = 1_000_000_000


class RequestTracer:
    """Traces the requests of one router: those whose client traces them, and of the others a share."""

    def __init__(self, tracer: Tracer, sample: float) -> None:
        self._tracer = tracer
        self._sample = sample

    def begin(self, request: RoutedRequest) -> RequestSpans | None:
        """None for a request that is not sampled."""
        headers = request.scope["headers"]
        context = parent(headers)
        if context is None:
            if random.random() >= self._sample:
                return None
        elif not span_context(context).trace_flags.sampled:
            return None
        path, model, claim = request.scope["path"], request.adapter or request.pool.model, request.claim
        work = operation(path)
        attributes: dict[str, AnyValue] = {
            "gen_ai.operation.name": work,
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": model,
            "http.request.method": request.scope["method"],
            "http.route": path,
        }
        if id := header(headers, REQUEST_ID):
            attributes["http.request.header.x-request-id"] = (id,)
        if request.owner.name:
            attributes["serve_app.key"] = request.owner.name
        if claim.sequences > 1:
            attributes["serve_app.sequences"] = claim.sequences
        if claim.batch:
            attributes["serve_app.batch"] = True
        span = self._tracer.start_span(f"{work} {model}", context, SpanKind.SERVER, attributes)
        trace_id.set(f"{span.get_span_context().trace_id:032x}")
        return RequestSpans(self._tracer, span, headers)


class RequestSpans:
    """A `routing.traced.RequestTrace`."""

    def __init__(self, tracer: Tracer, span: Span, headers: list[Header]) -> None:
        self._tracer = tracer
        self._span = span
        self._context = below(span)
        self._headers = headers
        self._began = self._waits_since = time.time_ns()
        self._attempts = 0
        self._sent_back = True
        """Whether it has no replica."""

    @contextlib.contextmanager
    def attempt(self, replica: Replica, events: int) -> Iterator[list[Header]]:
        self._waited()
        self._sent_back = False
        self._attempts += 1
        where = urlsplit(replica.info.url)
        attributes: dict[str, AnyValue] = {
            "serve_app.replica": replica.id,
            "serve_app.attempt": self._attempts,
            "server.address": where.hostname or "",
            "server.port": where.port or 0,
        }
        if events:
            attributes["serve_app.continued_events"] = events
        span = self._tracer.start_span("attempt", self._context, SpanKind.CLIENT, attributes)
        try:
            yield headers_below(span, self._headers)
        except BaseException as error:
            self._sent_back = isinstance(error, Refused)
            _tell(span, error)
            raise
        finally:
            self._waits_since = time.time_ns()
            span.end(self._waits_since)

    def end(self, outcome: Outcome, error: BaseException | None) -> None:
        if self._sent_back:
            self._waited()
        span = self._span
        span.set_attribute("http.response.status_code", outcome.status or 499)
        if outcome.first_byte_s is not None:
            span.add_event("first byte", timestamp=self._began + int(outcome.first_byte_s * NANO))
        if isinstance(error, ClientGone):
            span.set_attribute("error.type", "client_gone")
        elif outcome.broken or outcome.status >= 500:
            span.set_attribute("error.type", "replica_failed" if outcome.broken else str(outcome.status))
            span.set_status(Status(StatusCode.ERROR))
        elif outcome.status >= 400:
            span.set_attribute("error.type", str(outcome.status))
        span.end()

    def _waited(self) -> None:
        """Until now."""
        now = time.time_ns()
        if now - self._waits_since >= AT_ONCE_NS:
            self._tracer.start_span("wait for a replica", self._context, start_time=self._waits_since).end(now)


def _tell(span: Span, error: BaseException) -> None:
    """Why an attempt has no answer to its end."""
    if isinstance(error, asyncio.CancelledError):
        span.set_attribute("error.type", "client_gone")
        return
    if isinstance(error, Refused):
        span.set_attribute("error.type", error.reason)
        if isinstance(error, Lost):
            span.set_attribute("serve_app.lost", True)
        if error.reason not in (DEAD, DIED):
            return
    else:
        span.set_attribute("error.type", "broken_off" if isinstance(error, BrokenOff) else type(error).__name__)
    span.set_status(Status(StatusCode.ERROR, str(error.__cause__ or error)))
