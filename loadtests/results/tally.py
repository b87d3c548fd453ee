"""Counts of a running test that processes can send to each other and add up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from loadtests.results.record import Record
from loadtests.results.slo import Slo


@dataclass
class Tally:
    """Of one scenario, or of all."""

    ok: int = 0
    refused: int = 0
    failed: int = 0
    within_slo: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    """Refused and failed requests by kind."""

    @property
    def requests(self) -> int:
        return self.ok + self.refused + self.failed

    @property
    def share_within_slo(self) -> float:
        """Of all requests; 1 of none."""
        return self.within_slo / self.requests if self.requests else 1.0

    def add(self, record: Record, slo: Slo) -> None:
        setattr(self, record.outcome, getattr(self, record.outcome) + 1)
        if record.outcome == "ok":
            self.within_slo += slo.within(record)
            self.prompt_tokens += record.prompt_tokens
            self.output_tokens += record.output_tokens
        else:
            self.errors[record.detail] += 1

    def merge(self, other: Tally) -> None:
        for name in ("ok", "refused", "failed", "within_slo", "prompt_tokens", "output_tokens"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.errors.update(other.errors)


@dataclass
class Ledger:
    """Everything that one process has to tell beyond Locust's own statistics."""

    scenarios: dict[str, Tally] = field(default_factory=dict)
    ended_s: float = 0.0
    """When the latest request ended, s from the start."""
    busiest: dict[str, float] = field(default_factory=dict)
    """By client process, the CPU cores of its busiest seconds; near 1 it is the bottleneck."""

    def add(self, record: Record, slo: Slo) -> None:
        self.scenarios.setdefault(record.scenario, Tally()).add(record, slo)
        self.ended_s = max(self.ended_s, record.ended_s)

    def merge(self, other: Ledger) -> None:
        for name, tally in other.scenarios.items():
            self.scenarios.setdefault(name, Tally()).merge(tally)
        self.ended_s = max(self.ended_s, other.ended_s)
        for process, cores in other.busiest.items():
            self.busiest[process] = max(cores, self.busiest.get(process, 0.0))

    def take(self) -> dict[str, Any]:
        """All that is here as plain data, which is then gone from here."""
        data = {
            "scenarios": {name: vars(tally) | {"errors": dict(tally.errors)} for name, tally in self.scenarios.items()},
            "ended_s": self.ended_s,
            "busiest": self.busiest,
        }
        self.scenarios, self.busiest = {}, {}
        return data

    @classmethod
    def of(cls, data: dict[str, Any]) -> Ledger:
        """What another process took."""
        tallies = data["scenarios"].items()
        scenarios = {name: Tally(**{**tally, "errors": Counter(tally["errors"])}) for name, tally in tallies}
        return cls(scenarios, data["ended_s"], data["busiest"])

    def total(self) -> Tally:
        total = Tally()
        for tally in self.scenarios.values():
            total.merge(tally)
        return total
