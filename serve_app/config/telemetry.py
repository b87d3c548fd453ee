"""What a service tells of its requests: traces, and how its logs are written."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, Field

from serve_app.config.sections import AtLeastOne, Section

TRACES_PATH = "/v1/traces"
"""Where a collector takes spans unless the endpoint has a path of its own (opentelemetry.io/docs/specs/otlp)."""


def _collector(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{endpoint!r} is no address of a collector: write http://HOST:4318")
    if parts.username or parts.password:
        # Not repeated: Ray logs what it deploys, and so does whoever reads this.
        raise ValueError("holds a password, which Ray logs: set OTEL_EXPORTER_OTLP_HEADERS on each node")
    return urlunsplit(parts._replace(path=TRACES_PATH)) if parts.path in ("", "/") else endpoint


class TracingConfig(Section):
    """Traces of requests, sent to an OpenTelemetry collector."""

    endpoint: Annotated[str, AfterValidator(_collector)]
    """Where spans go, by OTLP over HTTP: `http://HOST:4318`, or with another path than `/v1/traces`."""
    sample: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of the requests that are traced, of those whose client says nothing of it in a `traceparent` header."""
    max_queued: AtLeastOne = 4096
    """Spans that one process holds until they are sent; more are dropped, and counted."""


class LogConfig(Section):
    """How logs are written."""

    format: Literal["text", "json"] = "text"
    """`json` writes an object a line, with the id of the request that it is about, and that of its trace."""


class Telemetry(NamedTuple):
    """Both, as each process of a service is given them."""

    tracing: TracingConfig | None
    logging: LogConfig
