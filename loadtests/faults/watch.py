"""Looks again and again whether a service is whole, beside what is done to it."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from loadtests.faults.victim import Victim

LOOK_S = 0.2
CALM_S = 4.0
"""A service that has been whole for so long is whole."""


class WholeWatch:
    """A thread that looks, between `with` and its end."""

    def __init__(self, victim: Victim) -> None:
        self._victim = victim
        self._broken_at = time.time()
        """When it was last not whole."""
        self._looked_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> WholeWatch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(30)

    def wait(self, most_s: float, since: float) -> float | None:
        """How long after `since` it was last not whole, once it has been whole for a while; None where that is not
        so within `most_s`."""
        until = time.time() + most_s
        while time.time() < until:
            if self._looked_at - max(since, self._broken_at) > CALM_S:
                return max(0.0, self._broken_at - since)
            time.sleep(LOOK_S)
        return None

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            at = time.time()
            if not self._victim.is_whole():
                self._broken_at = time.time()
            self._looked_at = at
