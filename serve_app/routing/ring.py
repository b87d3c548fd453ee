"""Which replica a hash belongs to: consistent hashing, the same in every ingress process without a word between them.

Karger et al., Consistent Hashing and Random Trees, 1997: a replica that leaves gives up only its own hashes, one
that comes takes its share from all the others.
"""

from __future__ import annotations

import struct
from bisect import bisect
from collections.abc import Iterable
from hashlib import shake_128
from itertools import repeat

POINTS = 64
"""Points of one replica on the ring; shares then differ by 1/sqrt(64), about an eighth."""
_POINTS = struct.Struct(f">{POINTS}Q")
_ARCS = 1024
_SHIFT = 64 - 10
"""The ring is kept as arcs of equal length, each sorted when it is first asked: all points of a thousand new replicas
sorted at once would hold up everything else for longer than all the rest of an announcement."""


class Ring:
    """Replica ids by the 64-bit hashes that belong to them."""

    def __init__(self) -> None:
        self._arcs: list[list[int]] = [[] for _ in range(_ARCS)]
        self._unsorted: set[int] = set()
        self._owners: dict[int, str] = {}
        self._ids: frozenset[str] = frozenset()

    def update(self, ids: Iterable[str]) -> None:
        """Hold these replicas and no others. Costs what has changed: announcements mostly change nothing."""
        wanted = frozenset(ids)
        gone = {point for id in self._ids - wanted for point in _points(id)}
        for arc in {point >> _SHIFT for point in gone}:
            self._arcs[arc] = [point for point in self._arcs[arc] if point not in gone]
        for point in gone:
            del self._owners[point]
        new = wanted - self._ids
        for id in new:
            points = _points(id)
            self._owners.update(zip(points, repeat(id)))
            for point in points:
                self._arcs[point >> _SHIFT].append(point)
        if new:
            self._unsorted.update(range(_ARCS))
        self._ids = wanted

    def home(self, hash: int) -> str:
        """The replica the hash belongs to; the ring must not be empty."""
        at = hash >> _SHIFT
        points = self._sorted(at)
        if not points or hash >= points[-1]:
            while not (points := self._sorted(at := (at + 1) % _ARCS)):
                pass
            return self._owners[points[0]]
        return self._owners[points[bisect(points, hash)]]

    def _sorted(self, arc: int) -> list[int]:
        points = self._arcs[arc]
        if arc in self._unsorted:
            points.sort()
            self._unsorted.remove(arc)
        return points


def _points(id: str) -> tuple[int, ...]:
    return _POINTS.unpack(shake_128(id.encode()).digest(_POINTS.size))
