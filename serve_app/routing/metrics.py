"""What passes through a process's router, as Prometheus metrics."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from serve_app.routing.pool import ReplicaPool
from serve_app.routing.refusals import REFUSALS
from serve_app.routing.traced import RequestTrace

LossCause = Literal["engine", "connection", "silence"]
"""Why a replica was lost within an answer: it said that its engine had died, it broke the connection, as it does when
its process or node goes, or nothing came from it any more."""
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class ModelSamples(NamedTuple):
    """One model's, that each of its requests counts in."""

    in_flight: Gauge
    first_byte: Histogram
    duration: Histogram
    bytes: Counter


class Metrics:
    """The metric families of one process's router."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "serve_app_requests", "Requests answered.", ("model", "route", "status", "key"), registry=self.registry
        )
        self.in_flight = Gauge("serve_app_requests_in_flight", "Requests open.", ("model",), registry=self.registry)
        self.first_byte = Histogram(
            "serve_app_first_byte_seconds",
            "From the request's arrival to the first byte of its answer.",
            ("model",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.duration = Histogram(
            "serve_app_request_seconds",
            "A request's time in all.",
            ("model",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.waited = Counter(
            "serve_app_waited_seconds",
            "Time that a key's requests waited for a replica.",
            ("key", "model"),
            registry=self.registry,
        )
        self.bytes = Counter("serve_app_sent_bytes", "Bytes of answers.", ("model",), registry=self.registry)
        self.retries = Counter(
            "serve_app_retries", "Times a request went to another replica.", ("model",), registry=self.registry
        )
        self.broken = Counter(
            "serve_app_broken_answers", "Answers cut off by a replica's failure.", ("model",), registry=self.registry
        )
        self.continued = Counter(
            "serve_app_continued_streams",
            "Times a stream whose replica was lost went to another one to go on.",
            ("model", "cause"),
            registry=self.registry,
        )
        self.frozen = Counter(
            "serve_app_frozen_replicas",
            "Replicas from which nothing came any more, found by an ingress process.",
            ("model",),
            registry=self.registry,
        )
        # To look the same samples up for each request takes longer than to count in them.
        self.of_model = functools.cache(self._of_model)
        self.waited_by = functools.cache(self.waited.labels)
        self.requests_by = functools.cache(self.requests.labels)

    def _of_model(self, model: str) -> ModelSamples:
        # What happens seldom is 0 from the start: of a series that begins with 1, Prometheus sees no increase.
        for seldom in (self.retries, self.broken, self.frozen):
            seldom.labels(model)
        for cause in get_args(LossCause):
            self.continued.labels(model, cause)
        return ModelSamples(
            self.in_flight.labels(model),
            self.first_byte.labels(model),
            self.duration.labels(model),
            self.bytes.labels(model),
        )


class PoolCounts(Collector):
    """What the pools count themselves, read from them when asked."""

    def __init__(self, pools: Sequence[ReplicaPool]) -> None:
        self._pools = pools

    def collect(self) -> Iterator[Metric]:
        """Each family has one sample for each model, and for each kind of place where it has those."""
        yield self._picks()
        yield from self._replicas()
        refused = CounterMetricFamily(
            "serve_app_refused_sequences", "Sequences refused for want of a replica.", labels=("model", "reason")
        )
        waiting = GaugeMetricFamily(
            "serve_app_requests_waiting", "Sequences held until a replica has room.", labels=("model",)
        )
        expected = GaugeMetricFamily(
            "serve_app_expected_wait_seconds",
            "How long a request that comes now waits for a replica; NaN while that is not known.",
            labels=("model",),
        )
        for one in self._pools:
            wait_s = one.queue.expected_wait_s()
            for reason in REFUSALS:
                refused.add_metric((one.model, reason), one.queue.refused[reason])
            waiting.add_metric((one.model,), one.queue.waiting)
            expected.add_metric((one.model,), math.nan if wait_s is None else wait_s)
        yield from (refused, waiting, expected)

    def _replicas(self) -> Iterator[Metric]:
        there = GaugeMetricFamily(
            "serve_app_replicas", "Replicas that are there: ready, or asleep.", labels=("model", "state")
        )
        begun = CounterMetricFamily("serve_app_replica_starts", "Replicas that have come.", labels=("model",))
        failures = CounterMetricFamily(
            "serve_app_replica_failures",
            "Times that an ingress process found a replica to have failed: its engine, its process or its node.",
            labels=("model",),
        )
        for one in self._pools:
            asleep = sum(replica.asleep(one.now()) for replica in one.replicas)
            there.add_metric((one.model, "ready"), len(one.replicas) - asleep)
            there.add_metric((one.model, "asleep"), asleep)
            begun.add_metric((one.model,), one.begun)
            failures.add_metric((one.model,), one.failures)
        yield from (there, begun, failures)

    def _picks(self) -> CounterMetricFamily:
        family = CounterMetricFamily(
            "serve_app_affinity_picks",
            "Replicas picked: the request's home, its second place, spilled to another; none: it shares no prefix.",
            labels=("model", "place"),
        )
        for one in self._pools:
            for place, count in one.placed.items():
                family.add_metric((one.model, place), count)
        return family


class ObservedRequest:
    """Counts one request and times it, from its arrival to the end of its response; a context manager."""

    def __init__(
        self, metrics: Metrics, model: str, route: str, key: str = "", trace: RequestTrace | None = None
    ) -> None:
        """`key` is the name of whose request it is, `trace` is told of one that is traced."""
        self.trace = trace
        self.status = 0
        """Of its answer; 0 where none has begun."""
        self.broken = False
        """Whether its answer was cut off by a replica's failure."""
        self.first_byte_s: float | None = None
        """From its arrival to the first byte of its answer."""
        self._metrics = metrics
        self._samples = metrics.of_model(model)
        self._key = key
        self._model = model
        self._route = route
        self._bytes = 0
        self._given: float | None = None
        self._began = time.perf_counter()
        self.event_stream = False

    @property
    def begun(self) -> bool:
        """Whether the client has the head of its answer."""
        return bool(self.status)

    def __enter__(self) -> ObservedRequest:
        self._samples.in_flight.inc()
        return self

    def __exit__(self, kind: object, error: BaseException | None, *_: object) -> None:
        metrics, samples, now = self._metrics, self._samples, time.perf_counter()
        samples.in_flight.dec()
        samples.duration.observe(now - self._began)
        metrics.waited_by(self._key, self._model).inc((self._given or now) - self._began)
        samples.bytes.inc(self._bytes)
        metrics.requests_by(self._model, self._route, str(self.status or 499), self._key).inc()
        if self.trace is not None:
            self.trace.end(self, error)

    def given(self) -> float:
        """It has a replica; for how many seconds it waited for the first one."""
        self._given = self._given or time.perf_counter()
        return self._given - self._began

    def started(self, status: int, content_type: str) -> None:
        self.status = status
        self.event_stream = content_type == "text/event-stream"

    def sent(self, size: int) -> None:
        if not self._bytes:
            self.first_byte_s = time.perf_counter() - self._began
            self._samples.first_byte.observe(self.first_byte_s)
        self._bytes += size

    def failed(self, status: int) -> None:
        self.status = status

    def retried(self) -> None:
        self._metrics.retries.labels(self._model).inc()

    def continued(self, cause: LossCause) -> None:
        self._metrics.continued.labels(self._model, cause).inc()

    def broke_off(self) -> None:
        self.broken = True
        self._metrics.broken.labels(self._model).inc()
