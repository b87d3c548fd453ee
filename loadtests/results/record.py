"""What became of each request of a load test, and the file that keeps it: a JSON object a line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

Outcome = Literal["ok", "refused", "failed"]


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
    model: str = ""
    """The name that it asked."""

    @property
    def tpot_s(self) -> float | None:
        """Mean time of each token after the first."""
        if self.ttft_s is None or self.output_tokens < 2:
            return None
        return (self.latency_s - self.ttft_s) / (self.output_tokens - 1)

    @property
    def late_s(self) -> float:
        """How much later than due it was sent, s: the client's delay, which the scheduled times count in."""
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
        """A line of JSON, its end included."""
        return _ENCODER.encode(self) + b"\n"


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Record)


def write(path: Path, records: Iterable[Record]) -> None:
    """Write records as JSON lines; folders that are missing are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.writelines(record.to_line() for record in records)


def read(path: Path) -> list[Record]:
    """Records of a file of JSON lines, in order of schedule. A last line that was cut off is left out.

    Raises OSError, and ValueError for any other line that is no record.
    """
    *lines, _ = path.read_bytes().split(b"\n")
    return sorted(map(_DECODER.decode, filter(None, lines)), key=lambda record: record.scheduled_s)
