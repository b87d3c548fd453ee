"""How long requests took in a replica, as OpenTelemetry's conventions for model servers measure it, for Prometheus.

Names, attributes and buckets are those of github.com/open-telemetry/semantic-conventions-genai (`gen_ai.server.*`, not
stable yet), written as the OpenTelemetry Collector writes them for Prometheus. A request's time begins with its arrival
at the service: what it waited for a replica is part of it. Of an answer that another replica began, only how long it
took counts.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client import Histogram, Metric
from prometheus_client.registry import Collector

from serve_app.http.model_routes import MODEL_ROUTES
from serve_app.http.operations import PROVIDER, operation
from serve_app.replica.ledger import Account

LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
DURATION_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
OUTPUT_TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)


class _OfRoute(NamedTuple):
    """One route's, that each of its answers counts in."""

    first_token: Histogram
    output_token: Histogram


class Latencies(Collector):
    """Of one replica's requests."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "From a request's arrival to the last byte of its answer.",
            (*LABELS, "error_type"),
            buckets=DURATION_S,
            registry=None,
        )
        self._first_token = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From a request's arrival to the first token of its answer, of those that succeed.",
            LABELS,
            buckets=FIRST_TOKEN_S,
            registry=None,
        )
        self._output_token = Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Mean time between the tokens of an answer, of those that succeed.",
            LABELS,
            buckets=OUTPUT_TOKEN_S,
            registry=None,
        )
        # To look the same samples up for each request takes longer than to count in them.
        self._duration_of = functools.cache(self._labelled)
        self._of_route = functools.cache(self._of)

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client."""
        for one in (self._duration, self._first_token, self._output_token):
            yield from one.collect()

    def ended(self, account: Account) -> None:
        """Count a request that has ended. What only prepares requests is none of an engine's."""
        route = account.route
        if MODEL_ROUTES.get(route, "prepare") == "prepare":
            return
        status = account.status or 499
        before_s = account.waited_s + account.admission_s
        duration_s = before_s + time.perf_counter() - account.began
        self._duration_of(route, "" if status < 400 else str(status)).observe(duration_s)
        if status >= 400 or not (timings := [timing for one in account.timings if (timing := one())]):
            return
        samples = self._of_route(route)
        samples.first_token.observe(before_s + min(one.first_token_at for one in timings) - account.arrived)
        for one in timings:
            if one.more_tokens:
                samples.output_token.observe(one.more_s / one.more_tokens)

    def _labelled(self, route: str, error: str) -> Histogram:
        return self._duration.labels(operation(route), PROVIDER, self._model, error)

    def _of(self, route: str) -> _OfRoute:
        labels = operation(route), PROVIDER, self._model
        return _OfRoute(self._first_token.labels(*labels), self._output_token.labels(*labels))
