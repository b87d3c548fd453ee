"""Asks a service's pages again and again while a load is on it, as an orchestrator's probes and a scraper do."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

PAGES = ("/health", "/ready", "/metrics")
PERIOD_S = 1.0
"""Between two questions for a page, s."""
TIMEOUT_S = 30.0
"""Far above what is asked of a page: how late an answer is should be seen, not only that it was late."""


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """One question for a page."""

    page: str
    at: float
    """When it was asked, seconds since the epoch."""
    took_s: float
    """Until the end of the answer, or until it was given up, s."""
    status: int | None
    """HTTP's; None where no answer came."""


class Probes:
    """Questions from threads of their own, one for each page, between `with` and its end."""

    def __init__(self, url: str, pages: Sequence[str] = PAGES, period_s: float = PERIOD_S) -> None:
        self.answers: list[ProbeAnswer] = []
        self._url = url
        self._period_s = period_s
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(page,), daemon=True) for page in pages]

    def __enter__(self) -> Probes:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S)

    def _run(self, page: str) -> None:
        while not self._stop.wait(self._period_s):
            at, began = time.time(), time.monotonic()
            status = _status(self._url + page)
            self.answers.append(ProbeAnswer(page, at, round(time.monotonic() - began, 4), status))


def _status(url: str) -> int | None:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            response.read()
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.read()
        return error.code
    except OSError:
        return None
