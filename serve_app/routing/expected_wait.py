"""How long a request that joins a queue will wait for a replica: what is before it, over how fast the queue is taken.

The rate is that at which replicas have lately taken requests from the queue while it was not empty. What ends while
nobody waits says how fast requests come, not how fast replicas are, so it does not count. Before a queue has been
watched for LEARN_S nothing is known, nor while none has been taken from it, as when all places are held by long
answers: nobody is refused for what is not known, and the queue's length is its only bound. Of a queue younger than
RECENT_S few have been taken, by which the rate may look too low by chance: the highest that is likely counts then, two
standard deviations of a Poisson process above.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

LEARN_S = 0.5
"""A queue is watched for so long before its rate counts."""
RECENT_S = 10.0
"""The rate is that of this long, or of as long as ENOUGH took, up to LONGEST_S."""
ENOUGH = 10
LONGEST_S = 60.0
CAUTION = 1.25
"""An expected wait is taken for this much longer: who is refused should be refused at once, not after waiting."""
SLOT_S = 0.5
"""What is taken is kept in sums over this long."""


@dataclass(frozen=True, slots=True)
class Coming:
    """Replicas that are starting."""

    replicas: int
    ready_at: float
    """When they should all serve, on the clock of who asks."""


class TakenRate:
    """Sequences a second that are taken from one queue."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._slots: deque[list[float]] = deque()
        """[when it begins, sequences taken within SLOT_S]."""

    def began(self, now: float) -> None:
        """The queue is no longer empty."""
        self._began = now
        self._slots.clear()

    def took(self, now: float, sequences: int) -> None:
        """So many were given a replica."""
        slots = self._slots
        if slots and now < slots[-1][0] + SLOT_S:
            slots[-1][1] += sequences
        else:
            slots.append([now, sequences])
        while slots[0][0] < now - LONGEST_S:
            slots.popleft()

    def per_s(self, now: float) -> float | None:
        """None where it is not known."""
        if self._began is None or now < self._began + LEARN_S:
            return None
        taken, since = 0.0, max(self._began, now - LONGEST_S)
        for at, count in reversed(self._slots):
            if at < now - RECENT_S and taken >= ENOUGH:
                since = at + SLOT_S
                break
            taken += count
        else:
            if taken and now < self._began + RECENT_S:
                taken += 2 * math.sqrt(taken)
            return taken / (now - since) if taken else None
        return taken / (now - max(since, self._began))


def expected_s(before: int, per_s: float, now: float, replicas: int, coming: Coming | None, room: float) -> float:
    """Seconds until a queue of `before` sequences has been taken by `replicas` that take `per_s` together.

    Those that are coming take as many places as `room` each when they are ready, and make the queue shorter as fast as
    each of the others does.
    """
    alone_s = before / per_s
    if coming is None or not coming.replicas or not replicas:
        return alone_s
    start_s = max(0.0, coming.ready_at - now)
    if alone_s <= start_s:
        return alone_s
    left = before - per_s * start_s - room * coming.replicas
    return start_s + max(0.0, left) / (per_s * (1 + coming.replicas / replicas))
