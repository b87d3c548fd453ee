"""What processes of the service count, read from Prometheus' text format.

Not with a parser for all of that format: an engine's page has a thousand lines, of which the console wants thirty, and
reads them every few seconds for every replica.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

REQUESTS = "serve_app_requests_total"
WAITING = "serve_app_requests_waiting"
FIRST_BYTE = "serve_app_first_byte_seconds"
PROMPT, OUTPUT = "vllm:prompt_tokens_total", "vllm:generation_tokens_total"
TTFT, TPOT = "vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds"
_BUCKETS = tuple(f"{name}_bucket" for name in (FIRST_BYTE, TTFT, TPOT))
_WANTED = tuple(f"{name}{{" for name in (REQUESTS, WAITING, PROMPT, OUTPUT, *_BUCKETS))
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")

Samples = dict[str, float]
"""By the name and labels of each, as they are written."""


def read(page: str) -> Samples:
    """The samples that the console wants."""
    found = {}
    for line in page.splitlines():
        if line.startswith(_WANTED):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def labels(sample: str) -> dict[str, str]:
    """Of a sample, as it is written."""
    return {name: _ESCAPED.sub(r"\1", value) for name, value in _LABEL.findall(sample)}


@dataclass
class Grown:
    """What one model's counters have grown by."""

    by_status: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    prompt: float = 0.0
    output: float = 0.0
    first_byte: dict[float, float] = field(default_factory=lambda: defaultdict(float))
    """How many waited up to so many seconds for the first byte of their answer, as the ingress sees it."""
    ttft: dict[float, float] = field(default_factory=lambda: defaultdict(float))
    """The same for the first token, as engines see it."""
    tpot: dict[float, float] = field(default_factory=lambda: defaultdict(float))
    """The same for the time from token to token."""


class Growth:
    """Of counters that many processes keep, some of which come and go, and begin at 0 again."""

    def __init__(self) -> None:
        self._before: dict[str, Samples] | None = None

    def since(self, now: dict[str, Samples]) -> dict[str, Grown]:
        """By model, since the last call; `now` is by process. Nothing has grown at the first call."""
        before, self._before = self._before, {**(self._before or {}), **now}
        if before is None:
            return {}
        found: dict[str, Grown] = defaultdict(Grown)
        for process, samples in now.items():
            known = before.get(process, {})
            for sample, value in samples.items():
                old = known.get(sample, 0.0)
                if delta := value - old if value >= old else value:
                    _add(found, sample, delta)
        return found

    def forget(self, processes: Iterable[str]) -> None:
        """All but these are gone for good."""
        if self._before is not None:
            self._before = {one: self._before[one] for one in processes if one in self._before}


def _add(found: dict[str, Grown], sample: str, delta: float) -> None:
    name, told = sample.partition("{")[0], labels(sample)
    model = found[told.get("model") or told.get("model_name") or ""]
    if name == REQUESTS:
        model.by_status[told["status"]] += delta
    elif name == PROMPT:
        model.prompt += delta
    elif name == OUTPUT:
        model.output += delta
    elif "le" in told:
        buckets = {FIRST_BYTE: model.first_byte, TTFT: model.ttft, TPOT: model.tpot}[name.removesuffix("_bucket")]
        buckets[float(told["le"])] += delta


def waiting(samples: Iterable[Samples]) -> dict[str, float]:
    """Sequences that ingress processes hold until a replica has room, by model."""
    found: dict[str, float] = defaultdict(float)
    for one in samples:
        for sample, value in one.items():
            if sample.startswith(WAITING):
                found[labels(sample)["model"]] += value
    return found


def percentile(buckets: dict[float, float], share: float) -> float | None:
    """The value that this share lies below, seconds, as Prometheus' `histogram_quantile` estimates it: evenly spread
    within a bucket. None where nothing was counted."""
    if not buckets or (total := max(buckets.values())) <= 0:
        return None
    lower = below = 0.0
    for upper, count in sorted(buckets.items()):
        if count >= share * total:
            if upper == float("inf"):
                return lower
            return lower + (upper - lower) * (share * total - below) / (count - below)
        lower, below = upper, count
    return lower
