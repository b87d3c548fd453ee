"""Replicas over time, as samples taken while a load runs."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from types import TracebackType
from typing import Any

PERIOD_S = 0.5


@dataclass(frozen=True)
class Sample:
    """A model's replicas at a moment."""

    at_s: float
    """Since the load began."""
    target: int
    """How many were wanted."""
    ready: int
    """How many served."""
    occupied: int
    """Processes that hold a replica's resources: starting, serving and draining; at least the target, which counts
    from the order on."""
    queued: float
    """Requests that waited, at replicas and at the ingress."""
    reason: str = ""
    """What the last decision was for."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def replica_seconds(samples: Sequence[Sample], until_s: float) -> float:
    """Integral of the occupied replicas from 0 to `until_s`; each sample holds until the next."""
    total = 0.0
    for one, after in pairwise([*samples, Sample(until_s, 0, 0, 0, 0)]):
        low, high = max(0.0, one.at_s), min(until_s, after.at_s)
        total += one.occupied * max(0.0, high - low)
    return total


def changes(samples: Iterable[Sample]) -> list[tuple[float, int]]:
    """(time, by how much) for each change of the target."""
    return [(after.at_s, after.target - one.target) for one, after in pairwise(samples) if after.target != one.target]


def startups(samples: Sequence[Sample]) -> list[float]:
    """How long each ordered replica took to serve, s: the n-th is ordered when the target reaches n and is there when n
    serve. Those whose order was taken back are left out."""
    found = []
    highest = max((one.target for one in samples), default=0)
    for n in range(1, highest + 1):
        ordered: float | None = None
        for one in samples:
            if one.target < n or one.ready >= n:
                if ordered is not None and one.ready >= n:
                    found.append(one.at_s - ordered)
                ordered = None
            if one.target >= n > one.ready and ordered is None:
                ordered = one.at_s
    return found


class Watch:
    """Samples a service from a thread of its own, between `with` and its end."""

    def __init__(self, look: Callable[[float], Sample | None], period_s: float = PERIOD_S) -> None:
        """`look` takes the time since the start and gives None where nothing could be seen."""
        self.samples: list[Sample] = []
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


def get_json(url: str) -> Any:
    """What a page says, whatever its status; None where nobody answers or it is no JSON."""
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
