"""Which replica a hash belongs to: consistent hashing, the same in every ingress process without a word between them.

Karger et al., Consistent Hashing and Random Trees, 1997: a replica that leaves gives up only its own hashes, one
that comes takes its share from all the others.
"""

from __future__ import annotations

import struct
from bisect import bisect
from collections.abc import Iterable
from hashlib import shake_128

POINTS = 64
"""Points of one replica on the ring; shares then differ by 1/sqrt(64), about an eighth."""
_POINTS = struct.Struct(f">{POINTS}Q")


class Ring:
    """Replica ids by the 64-bit hashes that belong to them."""

    def __init__(self) -> None:
        self._points: list[int] = []
        self._owners: dict[int, str] = {}
        self._ids: frozenset[str] = frozenset()

    def update(self, ids: Iterable[str]) -> None:
        """Hold these replicas and no others. Costs what has changed: announcements mostly change nothing."""
        wanted = frozenset(ids)
        gone = {point for id in self._ids - wanted for point in _points(id)}
        if gone:
            self._points = [point for point in self._points if point not in gone]
            for point in gone:
                del self._owners[point]
        for id in wanted - self._ids:
            points = _points(id)
            self._points += points
            self._owners.update(dict.fromkeys(points, id))
        if wanted != self._ids:
            self._points.sort()
            self._ids = wanted

    def home(self, hash: int) -> str:
        """The replica the hash belongs to; the ring must not be empty."""
        at = bisect(self._points, hash)
        return self._owners[self._points[at if at < len(self._points) else 0]]


def _points(id: str) -> tuple[int, ...]:
    return _POINTS.unpack(shake_128(id.encode()).digest(_POINTS.size))
