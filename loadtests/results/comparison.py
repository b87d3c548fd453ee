"""The measurements of a comparison of services: collected, summed up by medians, written and read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any

from loadtests.results import tables

COLUMNS = {
    "tokens_per_s": ("tokens/s", "{:,.0f}"),
    "requests_per_s": ("req/s", "{:.1f}"),
    "ttft_p50_ms": ("TTFT p50 ms", "{:.1f}"),
    "ttft_p99_ms": ("TTFT p99 ms", "{:.1f}"),
    "tpot_mean_ms": ("TPOT mean ms", "{:.2f}"),
    "tpot_p99_ms": ("TPOT p99 ms", "{:.2f}"),
    "goodput_per_s": ("goodput req/s", "{:.1f}"),
    "server_cpu_s_per_1k": ("server CPU-s/1k tok", "{:.3f}"),
    "cached": ("prompt cached", "{:.0%}"),
    "adapter_loads": ("adapter loads/1k req", "{:.1f}"),
    "client_cores": ("client cores", "{:.2f}"),
    "errors": ("errors", "{:.0f}"),
}
"""Title and format of each figure in tables and plots, by the field of Measurement."""
RATIOS = {"tokens/s ratio": "tokens_per_s", "TTFT p50 ratio": "ttft_p50_ms"}
"""Figures that a table also shows as multiples of the baseline's, by title."""


@dataclass(frozen=True)
class Measurement:
    """One contender under one load, once."""

    tokens_per_s: float
    """Output tokens of all streams together."""
    requests_per_s: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    tpot_mean_ms: float
    tpot_p99_ms: float
    goodput_per_s: float
    """Requests a second that were within the SLO."""
    errors: int
    client_cores: float
    """CPU cores the load client kept busy; near 1 for the one-threaded Python client, it is the bottleneck."""
    server_cpu_s_per_1k: float = 0.0
    """CPU-seconds of all the contender's processes per 1,000 output tokens."""
    cached: float | None = None
    """Share of the prompts' tokens that prefix caches had, 0 to 1; None where the contender does not tell."""
    adapter_loads: float | None = None
    """Times that an adapter was loaded for each 1,000 requests; None where the contender does not tell."""


@dataclass
class Comparison:
    """Every measurement of a suite's contenders, with what it was made on."""

    suite: str
    about: dict[str, Any]
    """What `results.about.about` gave when it was measured."""
    samples: list[dict[str, Any]] = field(default_factory=list)
    """Measurements as in the JSON: {"load", "contender", "round"} and the fields of Measurement."""
    failed: dict[str, str] = field(default_factory=dict)
    """Contenders that could not be measured at all, and why."""
    failed_loads: dict[str, dict[str, str]] = field(default_factory=dict)
    """By load, contenders that failed under it, and why."""

    @property
    def title(self) -> str:
        """For a plot: the suite, the machine and the date."""
        return f"{self.suite}, {self.about['gpu'] or 'CPU'}, {self.about['date']}"

    def add(self, load: str, contender: str, round: int, measurement: Measurement) -> None:
        self.samples.append({"load": load, "contender": contender, "round": round, **asdict(measurement)})

    def fail(self, load: str, contender: str, why: str) -> None:
        self.failed_loads.setdefault(load, {})[contender] = why

    def has_failed(self, load: str, contender: str) -> bool:
        return contender in self.failed_loads.get(load, {})

    def try_again(self, load: str, contender: str) -> None:
        """Forget that it failed."""
        if self.has_failed(load, contender):
            del self.failed_loads[load][contender]

    def medians(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """Per load and contender, in the order first measured, the median of each figure over the rounds."""
        table: dict[str, dict[str, dict[str, float | None]]] = {}
        for load in _in_order(one["load"] for one in self.samples):
            of_load = [one for one in self.samples if one["load"] == load]
            for contender in _in_order(one["contender"] for one in of_load):
                rows = [one for one in of_load if one["contender"] == contender]
                table.setdefault(load, {})[contender] = {
                    one.name: _median(row.get(one.name) for row in rows) for one in fields(Measurement)
                }
        return table

    def table(self, baseline: str) -> str:
        """Markdown: a table of medians for each load, of the figures that any contender has, with ratios to the
        baseline's, and who was not measured."""
        parts = []
        medians = self.medians()
        for load in _in_order([*medians, *self.failed_loads]):
            rows, failed = medians.get(load, {}), self.failed_loads.get(load, {})
            if not rows and not failed:
                continue
            base = rows.get(baseline, {})
            shown = {key: one for key, one in COLUMNS.items() if any(row[key] is not None for row in rows.values())}
            heads = [load, *(title for title, _ in shown.values()), *RATIOS]
            cells = [
                [
                    contender,
                    *("-" if row[key] is None else form.format(row[key]) for key, (_, form) in shown.items()),
                    *(_ratio(row[key], base.get(key)) for key in RATIOS.values()),
                ]
                for contender, row in rows.items()
            ]
            cells += [[name, "failed", *["-"] * (len(heads) - 2)] for name in failed if name not in rows]
            parts.append(tables.markdown(heads, cells))
            parts += (
                ["\n".join(f"Failed: {name}: {why.strip()[-400:]}" for name, why in failed.items())] if failed else []
            )
        parts += ["\n".join(f"Not measured: {name}: {why.strip()[-400:]}" for name, why in self.failed.items())]
        return "\n\n".join(parts).strip()

    def write(self, path: Path) -> None:
        """Write all of it as JSON; done anew after each measurement, so that an interrupted run keeps what it has."""
        path.parent.mkdir(parents=True, exist_ok=True)
        failed = {"failed": self.failed, "failed_loads": self.failed_loads}
        data = {"suite": self.suite, "about": self.about, **failed, "samples": self.samples}
        path.write_text(json.dumps(data, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Comparison:
        """From what `write` wrote. Raises OSError, and ValueError or KeyError where the file is no comparison."""
        data = json.loads(path.read_text())
        return cls(data["suite"], data["about"], data["samples"], data["failed"], data.get("failed_loads", {}))


def _median(values: Iterable[float | None]) -> float | None:
    """Of those that were measured."""
    return median(found) if (found := [value for value in values if value is not None]) else None


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _ratio(value: float | None, base: float | None) -> str:
    return f"{value / base:.2f}" if value is not None and base else "-"
