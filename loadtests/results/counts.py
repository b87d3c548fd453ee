"""How requests ended, counted: what processes of one test can add up, and what rates are made of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from loadtests.results.record import Record
from loadtests.results.slo import Slo

ADDED_UP = ("ok", "refused", "failed", "within_slo", "prompt_tokens", "output_tokens")


@dataclass(kw_only=True)
class OutcomeCounts:
    """Requests of one scenario or of a whole test, by their outcome."""

    ok: int = 0
    refused: int = 0
    failed: int = 0
    within_slo: int = 0
    """Requests answered within the SLO's limits of one request."""
    prompt_tokens: int = 0
    """Of answered requests."""
    output_tokens: int = 0
    """Of answered requests."""
    errors: Counter[str] = field(default_factory=Counter)
    """Requests refused or failed, by kind."""

    @property
    def requests(self) -> int:
        return self.ok + self.refused + self.failed

    @property
    def share_within_slo(self) -> float:
        """Of all requests, those not answered included, 0 to 1; 1 of none."""
        return self.within_slo / self.requests if self.requests else 1.0

    def add(self, record: Record, slo: Slo) -> None:
        """Count one request more."""
        setattr(self, record.outcome, getattr(self, record.outcome) + 1)
        if record.outcome == "ok":
            self.within_slo += slo.within(record)
            self.prompt_tokens += record.prompt_tokens
            self.output_tokens += record.output_tokens
        else:
            self.errors[record.detail] += 1

    def merge(self, other: OutcomeCounts) -> None:
        """Count all requests of another as well."""
        for name in ADDED_UP:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.errors.update(other.errors)

    def throughput(self, seconds: float) -> float:
        """Output tokens a second of all requests together, over so long; 0 over no time."""
        return _rate(self.output_tokens, seconds)

    def prompt_throughput(self, seconds: float) -> float:
        """Prompt tokens a second, over so long; 0 over no time."""
        return _rate(self.prompt_tokens, seconds)

    def goodput(self, seconds: float) -> float:
        """Requests a second that were answered within the SLO, over so long; 0 over no time."""
        return _rate(self.within_slo, seconds)

    def answered(self, seconds: float) -> float:
        """Answered requests a second, over so long; 0 over no time."""
        return _rate(self.ok, seconds)


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
