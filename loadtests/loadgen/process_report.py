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

    scenarios: dict[str, OutcomeCounts] = field(default_factory=dict)
    ended_s: float = 0.0
    """When the latest request ended, s from the start."""
    busiest: dict[str, float] = field(default_factory=dict)
    """By client process, the CPU cores of its busiest seconds; near 1 it is the bottleneck."""

    def add(self, record: Record, slo: Slo) -> None:
        self.scenarios.setdefault(record.scenario, OutcomeCounts()).add(record, slo)
        self.ended_s = max(self.ended_s, record.ended_s)

    def merge(self, other: ProcessReport) -> None:
        """Add what another process reported."""
        for name, counts in other.scenarios.items():
            self.scenarios.setdefault(name, OutcomeCounts()).merge(counts)
        self.ended_s = max(self.ended_s, other.ended_s)
        for process, cores in other.busiest.items():
            self.busiest[process] = max(cores, self.busiest.get(process, 0.0))

    def take(self) -> dict[str, Any]:
        """Everything as plain data, which a message can carry; what was taken is counted here no more."""
        scenarios = {name: vars(counts) | {"errors": dict(counts.errors)} for name, counts in self.scenarios.items()}
        data = {"scenarios": scenarios, "ended_s": self.ended_s, "busiest": self.busiest}
        self.scenarios, self.busiest = {}, {}
        return data

    @classmethod
    def of(cls, data: dict[str, Any]) -> ProcessReport:
        """From what `take` gave in another process."""
        scenarios = {
            name: OutcomeCounts(**counts | {"errors": Counter(counts["errors"])})
            for name, counts in data["scenarios"].items()
        }
        return cls(scenarios, data["ended_s"], data["busiest"])

    def total(self) -> OutcomeCounts:
        """Of all scenarios."""
        total = OutcomeCounts()
        for counts in self.scenarios.values():
            total.merge(counts)
        return total
