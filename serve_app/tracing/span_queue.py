"""Spans that have ended, on their way to a collector: a bounded queue, and one thread that empties it.

Whoever ends a span never waits. Where the collector does not take spans the thread leaves it alone for PAUSE_S, and
what does not fit in the queue meanwhile is dropped and counted. OpenTelemetry's own processor counts what it drops for
nobody to read, tries again all the time, and its exporter says so each time.

A batch is encoded in Python, 22 us a span, in which no stream of the process moves: it is small for that.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from serve_app.tracing.counts import SpanCounts

SEND_S = 0.5
"""How long a span waits to be sent, unless there are many."""
BATCH = 64
PAUSE_S = 30.0
END_S = 3.0
"""For what is left to be sent as the process ends."""

logger = logging.getLogger("ray.serve")


class SpanQueue(SpanProcessor):
    """Of one process."""

    def __init__(self, exporter: SpanExporter, most: int, counts: SpanCounts, where: str) -> None:
        """`most` spans are held; `where` names the collector in the log."""
        self._exporter = exporter
        self._most = most
        self._counts = counts
        self._where = where
        self._spans: deque[ReadableSpan] = deque()
        self._wake = threading.Event()
        self._closed = False
        self._failing = False
        self._resume_at = 0.0
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None: ...

    def on_end(self, span: ReadableSpan) -> None:
        """Keep it to be sent; never blocks."""
        if len(self._spans) >= self._most:
            self._counts.add("dropped")
            return
        self._spans.append(span)
        if len(self._spans) >= BATCH and not self._failing:
            self._wake.set()

    def shutdown(self) -> None:
        """Send what is left, for at most END_S. Blocks."""
        self._closed = True
        self._wake.set()
        self._thread.join(END_S)
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Have what is held sent now, also where the collector has lately taken none; does not wait for it."""
        self._resume_at = 0.0
        self._wake.set()
        return True

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(SEND_S)
            self._wake.clear()
            if time.monotonic() >= self._resume_at:
                self._send()
        self._send()

    def _send(self) -> None:
        """All there is, or up to the first batch that is not taken."""
        while self._spans:
            batch = [self._spans.popleft() for _ in range(min(BATCH, len(self._spans)))]
            taken = self._exporter.export(batch) is SpanExportResult.SUCCESS
            self._counts.add("sent" if taken else "failed", len(batch))
            self._told(taken)
            if not taken:
                self._resume_at = time.monotonic() + PAUSE_S
                return

    def _told(self, taken: bool) -> None:
        """Say so once where it is no longer as it was."""
        if taken and self._failing:
            logger.info("%s takes spans again", self._where)
        elif not taken and not self._failing:
            logger.warning("%s takes no spans at present: traces have gaps, requests are served as ever", self._where)
        self._failing = not taken
