"""What each process of a running test tells the others beyond Locust's own statistics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from loadtests.results.counts import OutcomeCounts
from loadtests.results.record import Record
from loadtests.results.slo import Slo


@dataclass
class ProcessReport:
    """One process's requests so far, or those of several processes added up."""

    rows: dict[str, OutcomeCounts] = field(default_factory=dict)
    """By what was asked: the scenario, and the model where there are several."""
    ended_s: float = 0.0
    """When the latest request ended, s from the start."""
    busiest: dict[str, float] = field(default_factory=dict)
    """By client process, the CPU cores of its busiest seconds; near 1 it is the bottleneck."""

    def add(self, record: Record, slo: Slo, row: str) -> None:
        """Count one request more, under what was asked."""
        self.rows.setdefault(row, OutcomeCounts()).add(record, slo)
        self.ended_s = max(self.ended_s, record.ended_s)

    def merge(self, other: ProcessReport) -> None:
        """Add what another process reported."""
        for name, counts in other.rows.items():
            self.rows.setdefault(name, OutcomeCounts()).merge(counts)
        self.ended_s = max(self.ended_s, other.ended_s)
        for process, cores in other.busiest.items():
            self.busiest[process] = max(cores, self.busiest.get(process, 0.0))

    def take(self) -> dict[str, Any]:
        """Everything as plain data, which a message can carry; what was taken is counted here no more."""
        rows = {name: vars(counts) | {"errors": dict(counts.errors)} for name, counts in self.rows.items()}
        data = {"rows": rows, "ended_s": self.ended_s, "busiest": self.busiest}
        self.rows, self.busiest = {}, {}
        return data

    @classmethod
    def of(cls, data: dict[str, Any]) -> ProcessReport:
        """From what `take` gave in another process."""
        rows = {
            name: OutcomeCounts(**counts | {"errors": Counter(counts["errors"])})
            for name, counts in data["rows"].items()
        }
        return cls(rows, data["ended_s"], data["busiest"])

    def total(self) -> OutcomeCounts:
        """Of all rows."""
        total = OutcomeCounts()
        for counts in self.rows.values():
            total.merge(counts)
        return total
