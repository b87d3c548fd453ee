"""A request's trace in its replica: from the door to the last byte, with what the engine made of it."""

from __future__ import annotations

import time

from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.http.operations import PROVIDER, operation
from serve_app.logs.context import trace_id
from serve_app.replica.ledger import Account, current
from serve_app.tracing.context import headers_below, parent, span_context

NANO = 1_000_000_000


class TracedReplica:
    """ASGI middleware between admission control and an engine's application, whose own spans are below this one's."""

    def __init__(self, app: ASGIApp, tracer: Tracer, model: str) -> None:
        self._app = app
        self._tracer = tracer
        self._model = model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        account = current.get(None)
        context = parent(scope["headers"]) if account is not None else None
        if account is None or context is None or not span_context(context).trace_flags.sampled:
            await self._app(scope, receive, send)
            return
        now = time.time_ns()
        attributes = {
            "gen_ai.operation.name": operation(scope["path"]),
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": self._model,
            "http.request.method": scope["method"],
            "http.route": scope["path"],
        }
        came = now - int(account.admission_s * NANO)
        span = self._tracer.start_span("replica", context, SpanKind.SERVER, attributes, start_time=came)
        span.add_event("let in", timestamp=now)
        trace_id.set(f"{span.get_span_context().trace_id:032x}")
        try:
            await self._app({**scope, "headers": headers_below(span, scope["headers"])}, receive, send)
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            raise
        finally:
            if account.first_byte_at:
                span.add_event("first byte", timestamp=now + int((account.first_byte_at - account.began) * NANO))
            span.set_attributes(_outcome(account))
            if account.status >= 500:
                span.set_status(Status(StatusCode.ERROR))
            span.end()


def _outcome(account: Account) -> dict[str, str | int]:
    used = account.used()
    found: dict[str, str | int] = {
        "http.response.status_code": account.status or 499,
        "gen_ai.usage.input_tokens": used.prompt,
        "gen_ai.usage.cache_read.input_tokens": used.cached,
        "gen_ai.usage.output_tokens": used.output,
    }
    if account.status >= 400:
        found["error.type"] = str(account.status)
    return found
