"""Watching a running service: samples of its replicas, taken while a load is put on it."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from types import TracebackType
from typing import Any

from loadtests.bench.peers.peer import RunningPeer
from loadtests.results.replicas import ReplicaCounts

PERIOD_S = 0.5
"""Between two samples, s."""


class Watch:
    """Samples a service from a thread of its own, between `with` and its end."""

    def __init__(self, look: Callable[[float], ReplicaCounts | None], period_s: float = PERIOD_S) -> None:
        """`look` takes the time since the start and gives None where nothing could be seen."""
        self.samples: list[ReplicaCounts] = []
        self._look = look
        self._period_s = period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(self._period_s):
            if (sample := self._look(time.monotonic() - self._began)) is not None:
                self.samples.append(sample)


def look(running: RunningPeer, model: str, title: str, at_s: float) -> ReplicaCounts | None:
    """A model's replicas now, `at_s` after the start: from the service's own page, and from the processes whose titles
    begin with `title`. Where the service tells no target, as Ray Serve's own application, the processes are it."""
    occupied = len(running.processes(title))
    page = _get_json(f"{running.peer.url}/autoscaling")
    known = page.get("models", {}).get(model, {}) if isinstance(page, dict) else {}
    replicas = known.get("replicas")
    if replicas is None:
        return ReplicaCounts(at_s, occupied, occupied, occupied, 0.0)
    inputs = known.get("inputs", {})
    queued = float(inputs.get("waiting", 0.0)) + float(inputs.get("held", 0.0))
    in_all, asleep = int(replicas["target"]), int(replicas.get("asleep", 0))
    target, ready = int(replicas.get("awake", in_all)), int(replicas["ready"]) - asleep
    return ReplicaCounts(at_s, target, ready, max(occupied, in_all), queued, str(known.get("reason", "")), asleep)


def _get_json(url: str) -> Any:
    """What a page says, whatever its status; None where nobody answers or the answer is no JSON."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        try:
            return json.loads(error.read())
        except ValueError:
            return None
    except (OSError, ValueError):
        return None
