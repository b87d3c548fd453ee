"""The W3C's `traceparent` (w3.org/TR/trace-context), by which a trace goes on in another process."""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

TRACEPARENT = b"traceparent"
_NAMES = (TRACEPARENT, b"tracestate")
_propagator = TraceContextTextMapPropagator()

Header = tuple[bytes, bytes]


def parent(headers: Iterable[Header]) -> Context | None:
    """What a request's headers say of the trace it is part of; None where they say nothing that can be read."""
    given = {name.decode(): value.decode("latin-1") for name, value in headers if name in _NAMES}
    if "traceparent" not in given:
        return None
    found = _propagator.extract(given, Context())
    return found if span_context(found).is_valid else None


def span_context(context: Context) -> SpanContext:
    return get_current_span(context).get_span_context()


def below(span: Span) -> Context:
    """For spans within this one."""
    return set_span_in_context(span, Context())


def headers_below(span: Span, headers: Iterable[Header]) -> list[Header]:
    """A request's headers as they go on from this span."""
    one = span.get_span_context()
    traceparent = b"00-%032x-%016x-%02x" % (one.trace_id, one.span_id, one.trace_flags)
    return [*(header for header in headers if header[0] != TRACEPARENT), (TRACEPARENT, traceparent)]
