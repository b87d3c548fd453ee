"""What became of each request of a load test, and what that comes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from loadtests.results.slo import Slo, percentile

Outcome = Literal["ok", "refused", "failed"]
PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class Record:
    """One request, seen by the client. Times are in s; moments count from the start of the test."""

    scheduled_s: float
    """When it was due; in a closed loop, when it was sent."""
    sent_s: float
    """When the client began to send it."""
    ttft_s: float | None
    """From sending to the first token; None when nothing was streamed."""
    latency_s: float
    """From sending to the end."""
    prompt_tokens: int
    output_tokens: int
    outcome: Outcome
    """`refused`: the service was full or not ready (429, 503) and said so before it began; `failed`: anything else."""
    detail: str = ""
    """The kind of error, such as `429 overloaded`."""
    scenario: str = ""
    worst_gap_s: float | None = None
    """The longest wait between two chunks of its stream."""

    @property
    def tpot_s(self) -> float | None:
        """Mean time of each token after the first."""
        if self.ttft_s is None or self.output_tokens < 2:
            return None
        return (self.latency_s - self.ttft_s) / (self.output_tokens - 1)

    @property
    def late_s(self) -> float:
        """How much later than due it was sent: the client's fault, but its user's time."""
        return self.sent_s - self.scheduled_s

    @property
    def scheduled_ttft_s(self) -> float | None:
        """From when it was due to the first token."""
        return None if self.ttft_s is None else self.late_s + self.ttft_s

    @property
    def scheduled_latency_s(self) -> float:
        """From when it was due to its end."""
        return self.late_s + self.latency_s

    @property
    def ended_s(self) -> float:
        return self.sent_s + self.latency_s

    def to_line(self) -> bytes:
        """As a line of JSON."""
        return _ENCODER.encode(self) + b"\n"


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Record)


def write(path: Path, records: Iterable[Record]) -> None:
    """As JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.writelines(record.to_line() for record in records)


def read(path: Path) -> list[Record]:
    """From JSON lines, in order of schedule; a last line that was cut off is left out. Raises ValueError for others."""
    *lines, _ = path.read_bytes().split(b"\n")
    return sorted(map(_DECODER.decode, filter(None, lines)), key=lambda record: record.scheduled_s)


@dataclass(frozen=True)
class Summary:
    """Requests of one test in figures."""

    seconds: float
    """From when the first was due to the end of the last."""
    requests: int
    ok: int
    refused: int
    failed: int
    ttft_s: dict[int, float]
    """By percentile, from when a request was due; of requests that were answered."""
    tpot_s: dict[int, float]
    e2e_s: dict[int, float]
    late_s: dict[int, float]
    """How late the client itself was."""
    prompt_tokens: int
    output_tokens: int
    within_slo: int
    """Requests answered within the SLO's limits of one request."""
    slo_holds: bool
    """Whether the SLO's percentiles hold over all requests."""
    errors: dict[str, int]
    """Requests refused or failed, by kind."""

    @classmethod
    def of(cls, records: Iterable[Record], slo: Slo) -> Summary:
        records = list(records)
        ok = [record for record in records if record.outcome == "ok"]
        outcomes = Counter(record.outcome for record in records)
        began = min((record.scheduled_s for record in records), default=0.0)
        return cls(
            seconds=max((record.ended_s for record in records), default=0.0) - began,
            requests=len(records),
            ok=len(ok),
            refused=outcomes["refused"],
            failed=outcomes["failed"],
            ttft_s=_percentiles(record.scheduled_ttft_s for record in ok),
            tpot_s=_percentiles(record.tpot_s for record in ok),
            e2e_s=_percentiles(record.scheduled_latency_s for record in ok),
            late_s=_percentiles(record.late_s for record in records),
            prompt_tokens=sum(record.prompt_tokens for record in ok),
            output_tokens=sum(record.output_tokens for record in ok),
            within_slo=sum(map(slo.within, ok)),
            slo_holds=slo.holds(records),
            errors=dict(Counter(record.detail for record in records if record.outcome != "ok").most_common()),
        )

    @property
    def requests_per_s(self) -> float:
        """Answered requests a second."""
        return self._rate(self.ok)

    @property
    def tokens_per_s(self) -> float:
        """Output tokens a second, of all requests together."""
        return self._rate(self.output_tokens)

    @property
    def goodput_per_s(self) -> float:
        """Requests a second that were answered within the SLO."""
        return self._rate(self.within_slo)

    @property
    def share_within_slo(self) -> float:
        """Of all requests, those not answered included; 1 of none."""
        return self.within_slo / self.requests if self.requests else 1.0

    def to_dict(self) -> dict[str, Any]:
        rates = ("requests_per_s", "tokens_per_s", "goodput_per_s", "share_within_slo")
        return asdict(self) | {name: getattr(self, name) for name in rates}

    def _rate(self, count: float) -> float:
        return count / self.seconds if self.seconds > 0 else 0.0


def _percentiles(values: Iterable[float | None]) -> dict[int, float]:
    known: list[float] = sorted(value for value in values if value is not None)
    return {percent: percentile(known, percent) for percent in PERCENTILES}
