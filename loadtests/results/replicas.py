"""How many replicas a model had over time: samples of it, and what they come to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class ReplicaCounts:
    """A model's replicas and waiting requests at one moment."""

    at_s: float
    """Seconds since the load began."""
    target: int
    """How many were wanted awake."""
    ready: int
    """How many served."""
    occupied: int
    """Processes that hold a replica's resources: starting, serving, sleeping and draining; at least the target, which
    counts from the order on."""
    queued: float
    """Requests that waited, at replicas and at the ingress."""
    reason: str = ""
    """What the last decision was for."""
    asleep: int = 0
    """How many were started and slept; they are neither in `target` nor in `ready`."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def replica_seconds(samples: Sequence[ReplicaCounts], until_s: float, standby_cost: float = 1.0) -> float:
    """Integral of the occupied replicas from 0 to `until_s`; each sample holds until the next.

    One that sleeps counts as the share `standby_cost` of a replica.
    """
    total = 0.0
    for one, after in pairwise([*samples, ReplicaCounts(until_s, 0, 0, 0, 0)]):
        low, high = max(0.0, one.at_s), min(until_s, after.at_s)
        total += (one.occupied - (1 - standby_cost) * one.asleep) * max(0.0, high - low)
    return total


def changes(samples: Iterable[ReplicaCounts]) -> list[tuple[float, int]]:
    """(time in s, by how many replicas) for each change of the target."""
    return [(after.at_s, after.target - one.target) for one, after in pairwise(samples) if after.target != one.target]


def startups(samples: Sequence[ReplicaCounts]) -> list[float]:
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


def reversals(samples: Sequence[ReplicaCounts], window_s: float) -> int:
    """Changes of the target that went against the one before, less than `window_s` after it."""
    return sum(one * other < 0 and then - at < window_s for (at, one), (then, other) in pairwise(changes(samples)))
