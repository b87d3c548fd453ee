"""Spans on their way to a collector that is there, gone, or back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider

from serve_app.config.telemetry import TracingConfig
from serve_app.tracing import process, span_queue
from serve_app.tracing.counts import SpanCounts
from tests.support.collector import Collector, collecting

BATCH = span_queue.BATCH
MOST = 3 * BATCH


class Sending:
    """A queue, and who puts spans into it."""

    def __init__(self, url: str) -> None:
        self.counts = SpanCounts("spans")
        self.queue = process.queue(TracingConfig(endpoint=url, max_queued=MOST), self.counts)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(self.queue)
        self._tracer = provider.get_tracer("test")

    def spans(self, count: int) -> None:
        for _ in range(count):
            self._tracer.start_span("one").end()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray Serve, where it has been imported, keeps its logger's lines to itself."""
    monkeypatch.setattr(logging.getLogger("ray.serve"), "propagate", True)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def test_all_are_sent_in_the_end(collector: Collector) -> None:
    sending = Sending(collector.url)
    sending.spans(2 * BATCH + 1)
    sending.queue.shutdown()
    assert len(collector.spans) == sending.counts["sent"] == 2 * BATCH + 1
    assert 3 <= collector.posts <= 4


def test_a_collector_that_takes_none_is_left_alone_and_nobody_waits_for_it(
    collector: Collector, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said once, and once that it is back."""
    collector.status = 400
    caplog.set_level(logging.INFO)
    sending = Sending(collector.url)
    sending.spans(1)
    until(lambda: sending.counts["failed"])
    began = time.monotonic()
    sending.spans(10 * BATCH)
    assert time.monotonic() - began < 1 and sending.counts["dropped"] == 7 * BATCH
    time.sleep(2 * span_queue.SEND_S)
    assert collector.posts == sending.counts["failed"] == 1

    monkeypatch.setattr(span_queue, "PAUSE_S", 0)
    sending.queue.force_flush()
    until(lambda: collector.posts >= 2)
    collector.status = 200
    until(lambda: sending.counts["sent"] + sending.counts["failed"] == 1 + MOST)
    sending.queue.shutdown()
    assert len(collector.spans) == sending.counts["sent"] > 0
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_where_nothing_listens_it_is_as_where_none_are_taken(caplog: pytest.LogCaptureFixture) -> None:
    sending = Sending("http://127.0.0.1:1")
    sending.spans(1)
    until(lambda: sending.counts["failed"])
    began = time.monotonic()
    sending.queue.shutdown()
    assert time.monotonic() - began < span_queue.END_S
    assert ["takes no spans at present" in record.getMessage() for record in caplog.records] == [True]
