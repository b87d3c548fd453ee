"""What the requests of a test come to: counts, percentiles of their times, and rates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from loadtests.results.counts import OutcomeCounts
from loadtests.results.percentiles import percentiles
from loadtests.results.record import Record
from loadtests.results.slo import Slo

RATES = ("requests_per_s", "tokens_per_s", "goodput_per_s", "share_within_slo")


@dataclass(kw_only=True)
class Summary(OutcomeCounts):
    """Requests of one test in figures. Percentiles are by their number, such as `ttft_s[95]`, in s."""

    seconds: float
    """From when the first was due to the end of the last."""
    ttft_s: dict[int, float]
    """Time to first token from when a request was due, of requests that were answered."""
    tpot_s: dict[int, float]
    """Mean time of each further token, of requests that were answered."""
    e2e_s: dict[int, float]
    """From when a request was due to its end, of requests that were answered."""
    late_s: dict[int, float]
    """How much later than due the client sent its requests."""
    slo_holds: bool
    """Whether the SLO's percentiles hold over all requests."""

    @classmethod
    def of(cls, records: Iterable[Record], slo: Slo) -> Summary:
        records = list(records)
        ok = [record for record in records if record.outcome == "ok"]
        began = min((record.scheduled_s for record in records), default=0.0)
        summary = cls(
            seconds=max((record.ended_s for record in records), default=0.0) - began,
            ttft_s=percentiles(record.scheduled_ttft_s for record in ok),
            tpot_s=percentiles(record.tpot_s for record in ok),
            e2e_s=percentiles(record.scheduled_latency_s for record in ok),
            late_s=percentiles(record.late_s for record in records),
            slo_holds=slo.holds(records),
        )
        for record in records:
            summary.add(record, slo)
        return summary

    @property
    def requests_per_s(self) -> float:
        """Answered requests a second."""
        return self.answered(self.seconds)

    @property
    def tokens_per_s(self) -> float:
        """Output tokens a second, of all requests together."""
        return self.throughput(self.seconds)

    @property
    def goodput_per_s(self) -> float:
        """Requests a second that were answered within the SLO."""
        return self.goodput(self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: every field, the number of requests, and the rates."""
        rates = {name: getattr(self, name) for name in RATES}
        return {**vars(self), "requests": self.requests, "errors": dict(self.errors.most_common())} | rates
