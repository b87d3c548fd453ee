"""Takes one engine of a running service away, at a moment of a test."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from types import TracebackType

from loadtests.bench.peers.peer import RunningPeer


class EngineKill:
    """Kills one process whose title begins with `title`, `after_s` seconds after `with`, unless that has ended."""

    def __init__(self, running: RunningPeer, title: str, after_s: float) -> None:
        self.at: float | None = None
        """When it was killed, seconds since the epoch; None where it was not."""
        self._running = running
        self._title = title
        self._timer = threading.Timer(after_s, self._kill)
        self._timer.daemon = True

    def __enter__(self) -> EngineKill:
        self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._timer.cancel()
        self._timer.join()

    def _kill(self) -> None:
        if pids := self._running.processes(self._title):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[0], signal.SIGKILL)
                self.at = time.time()
