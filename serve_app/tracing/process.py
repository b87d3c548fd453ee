"""What a process has that is traced: where its spans go, and what of it makes them."""

from __future__ import annotations

import logging
import os

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from starlette.types import ASGIApp

from serve_app.config.telemetry import TracingConfig
from serve_app.logs.names import Part, ProcessName
from serve_app.routing.router import Router
from serve_app.tracing.counts import SpanCounts
from serve_app.tracing.replica import TracedReplica
from serve_app.tracing.requests import RequestTracer
from serve_app.tracing.span_queue import SpanQueue

EXPORT_S = 2.0
"""For the collector to take a batch; the exporter tries again within it."""
FAMILIES: dict[Part, str] = {
    "ingress": "serve_app_spans",
    "engine": "serve_app_engine_spans",
    "batch": "serve_app_batch_spans",
}
"""Of metrics that count spans: on the service's page all of them stand together."""


def queue(config: TracingConfig, counts: SpanCounts) -> SpanQueue:
    """Of this process, to the collector."""
    # Of what goes wrong the exporter tells at each of its tries, and the queue once.
    logging.getLogger(trace_exporter.__name__).setLevel(logging.CRITICAL)
    exporter = trace_exporter.OTLPSpanExporter(config.endpoint, timeout=EXPORT_S)
    return SpanQueue(exporter, config.max_queued, counts, config.endpoint)


class Tracing:
    """Of one process."""

    def __init__(self, config: TracingConfig, process: ProcessName) -> None:
        self.counts = SpanCounts(FAMILIES[process.part])
        self._sample = config.sample
        names = {
            "service.namespace": process.application,
            "service.name": f"serve-app-{process.part}",
            "service.instance.id": process.id,
        }
        # An engine never begins a trace: a request that comes without one was not chosen.
        roots = ALWAYS_OFF if process.part == "engine" else ALWAYS_ON
        self._provider = TracerProvider(ParentBased(roots), Resource.create(names), shutdown_on_exit=False)
        self._provider.add_span_processor(queue(config, self.counts))
        self._tracer = self._provider.get_tracer("serve_app")

    def of_router(self, router: Router) -> None:
        """Trace what it routes, and tell of it among its metrics."""
        router.tracer = RequestTracer(self._tracer, self._sample)
        router.metrics.registry.register(self.counts)

    def of_replica(self, app: ASGIApp, model: str) -> ASGIApp:
        """An engine's application, traced."""
        return TracedReplica(app, self._tracer, model)

    def for_engine(self) -> None:
        """Have an engine's own spans go this way. To be called before it is imported.

        vLLM 0.32 makes its spans with the process's tracer, and would make itself one with a queue and a connection of
        its own. Those of its other processes, which tell of starts alone, are not asked for.
        """
        os.environ.setdefault("OTEL_TRACES_SAMPLER", "always_off")
        os.environ.setdefault("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
        trace.set_tracer_provider(self._provider)

    def close(self) -> None:
        """Send what is left. Blocks for a few seconds at most."""
        self._provider.shutdown()
