"""An OpenTelemetry collector as far as traces go: it takes spans by OTLP over HTTP, and keeps them."""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue


class Span(NamedTuple):
    """What was received of one."""

    trace: str
    """Its trace's id, hexadecimal, as `id` and `parent` are."""
    id: str
    parent: str
    """Empty where it begins its trace."""
    name: str
    service: str
    attributes: dict[str, Any]
    events: list[str]
    start_s: float
    end_s: float
    failed: bool


class Collector:
    """What has come."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.posts = 0
        self.status = 200
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def named(self, *names: str) -> list[Span]:
        return [span for span in list(self.spans) if span.name in names]

    def of(self, trace: str) -> list[Span]:
        return sorted((span for span in list(self.spans) if span.trace == trace), key=lambda span: span.start_s)

    def until(self, trace: str, *names: str, timeout_s: float = 20) -> dict[str, Span]:
        """A trace's spans by their names, the last of each, once there are all of these. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while not {span.name for span in self.of(trace)} >= set(names):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{names} did not all come: {[span.name for span in self.of(trace)]}")
            time.sleep(0.05)
        return {span.name: span for span in self.of(trace)}

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = {one.key: _value(one.value) for one in resource.resource.attributes}["service.name"]
            for scope in resource.scope_spans:
                self.spans += [
                    Span(
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        span.name,
                        service,
                        {one.key: _value(one.value) for one in span.attributes},
                        [event.name for event in span.events],
                        span.start_time_unix_nano / 1e9,
                        span.end_time_unix_nano / 1e9,
                        span.status.code == span.status.STATUS_CODE_ERROR,
                    )
                    for span in scope.spans
                ]


def _value(value: AnyValue) -> Any:
    found = getattr(value, str(value.WhichOneof("value")))
    return [_value(one) for one in found.values] if value.HasField("array_value") else found


@contextlib.contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """A collector that listens, on a free port unless one is given."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.posts += 1
            if collector.status == 200 and self.path == "/v1/traces":
                collector.take(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
            self.send_response(collector.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    collector.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
