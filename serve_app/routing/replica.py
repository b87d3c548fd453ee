"""One replica as this process knows it: what Ray Serve announced, and what this process adds to that."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from serve_app.replica.protocol import REPORT_PERIOD_S, ReplicaInfo, ReplicaLoad

RESERVE = 1 / 8
"""Of the sequences in a replica's batch, at least one: a part that is kept for clients that hold much less than their
share, while there are several."""
REPORTED_S = 6 * REPORT_PERIOD_S
"""A replica's report has reached every process after so long."""


@dataclass(frozen=True, slots=True)
class Published:
    """One replica as Ray Serve announced it."""

    id: str
    info: ReplicaInfo
    load: ReplicaLoad


class Replica:
    """One replica with what this process adds to its own report."""

    __slots__ = (
        "awake_until",
        "breaks",
        "crowded_until",
        "elsewhere",
        "full_until",
        "id",
        "in_flight",
        "info",
        "load",
        "most",
        "processes",
        "shunned_until",
    )

    def __init__(self, published: Published, processes: int = 1) -> None:
        """`processes` like this one share the replica's places."""
        self.id = published.id
        self.processes = processes
        self.in_flight = 0
        self.shunned_until = 0.0
        self.full_until = 0.0
        self.crowded_until = 0.0
        self.breaks = 0
        self.awake_until = 0.0
        self.update(published)

    def update(self, published: Published) -> None:
        self.info = published.info
        self.load = published.load
        self.elsewhere = max(0, published.load.demand - self.in_flight)
        # Each sees the same free places, of a new replica all: if each took them all, most would be sent away again.
        self.most = self.in_flight + ceil(max(0, self.info.capacity - self.occupied) / self.processes)
        """Sequences this process may have there until the next report."""

    @property
    def occupied(self) -> int:
        """Sequences it holds: this process's own, and what it last reported beyond those."""
        return self.in_flight + self.elsewhere

    @property
    def queues(self) -> bool:
        """Whether one more sequence would wait for a place in its batch."""
        return self.occupied >= self.info.max_running

    @property
    def free(self) -> int:
        """Sequences it would still take from this process; below 0 where a request of many, let in, waits."""
        return min(self.info.capacity - self.occupied, self.most - self.in_flight)

    @property
    def unreserved(self) -> int:
        """Sequences it would still take of a client that leaves the reserve to others."""
        most = self.info.max_running
        return min(self.free, max(1, most - max(1, int(RESERVE * most))) - self.occupied)

    @property
    def pressure(self) -> float:
        return self.occupied / self.info.capacity

    def serves(self, now: float) -> bool:
        return now >= self.shunned_until and not self.load.draining and not self.load.failed

    def is_crowded(self, now: float) -> bool:
        """Whether its batch is full for certain: it has just said so, or this process alone has more there."""
        return now < self.crowded_until or self.in_flight > self.info.max_running

    def asleep(self, now: float) -> bool:
        """Whether a request would first have to wake it."""
        return self.load.asleep and now >= self.awake_until

    def woken(self, now: float) -> None:
        """It was given a request, or told to wake: what it has reported before does not count."""
        self.awake_until = now + REPORTED_S

    def accepts(self, now: float) -> bool:
        """Whether it is awake and has room."""
        return self.serves(now) and not self.asleep(now) and now >= self.full_until and self.free > 0
