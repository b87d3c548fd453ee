"""One measurement of a replica under a constant offered load: what the tuner, its report and the simulator work
from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean
from typing import Any

from loadtests.results.percentiles import PERCENTILES, percentile
from loadtests.results.record import Record
from loadtests.results.slo import FIGURES, Slo

BLOCK_S = 2.0
"""Requests due within so long share the queue they met: the bootstrap draws whole blocks, not requests, and is so not
fooled into trusting a run of neighbours as if each were a sample of its own."""

Block = tuple[int, ...]
"""Requests due within BLOCK_S, then how many of them kept each term of the SLO, in the SLO's order."""


@dataclass(frozen=True)
class Step:
    """One replica under Poisson arrivals of a constant rate. Milliseconds and seconds as the names say."""

    replicas_per_gpu: int | None
    """How the replicas were packed; None for the configuration's own way, one replica."""
    rate: float
    """Offered, requests/s."""
    seconds: float
    """How long it was offered, after the warm-up."""
    achieved_rate: float
    """Requests/s whose answers ended while the load was offered."""
    concurrency: float
    """Mean requests open at the service while the load was offered, queued ones counted."""
    latency_s: float
    """Mean of a whole request, from when it was due."""
    ttft_ms: dict[str, float]
    """mean, p50, p90, p95, p99."""
    tpot_ms: dict[str, float]
    prompt_tokens: float
    """Mean of a request."""
    output_tokens: float
    """Mean of an answered request."""
    tokens_per_s: float
    """Output tokens a second, of those answers."""
    outcomes: dict[str, int]
    """Requests by ok, refused, failed."""
    late_ms: float
    """How late the load client itself sent its requests, p99: near the limits, it is the client that is measured."""
    blocks: tuple[Block, ...]

    @classmethod
    def of(
        cls,
        everything: Sequence[Record],
        slo: Slo,
        rate: float,
        seconds: float,
        replicas_per_gpu: int | None = None,
        warmup_s: float = 0.0,
    ) -> Step:
        """Sums up the records of one run; requests due in its first `warmup_s` met a replica that was not yet busy, and
        count only as what keeps it so."""
        until = warmup_s + seconds
        answered = [one for one in everything if one.outcome == "ok" and warmup_s <= one.ended_s < until]
        records = [one for one in everything if one.scheduled_s >= warmup_s]
        ok = [one for one in records if one.outcome == "ok"]
        return cls(
            replicas_per_gpu=replicas_per_gpu,
            rate=rate,
            seconds=seconds,
            achieved_rate=len(answered) / seconds,
            concurrency=sum(_open_s(one, warmup_s, until) for one in everything) / seconds,
            latency_s=_mean(one.scheduled_latency_s for one in ok),
            ttft_ms=_percentiles(one.scheduled_ttft_s for one in ok),
            tpot_ms=_percentiles(one.tpot_s for one in ok),
            prompt_tokens=_mean(one.prompt_tokens for one in records),
            output_tokens=_mean(one.output_tokens for one in ok),
            tokens_per_s=sum(one.output_tokens for one in answered) / seconds,
            outcomes={name: sum(one.outcome == name for one in records) for name in ("ok", "refused", "failed")},
            late_ms=1000 * percentile([one.late_s for one in records], 99),
            blocks=blocks(records, slo),
        )

    @property
    def requests(self) -> int:
        return sum(self.outcomes.values())

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Step:
        known = {one.name for one in fields(cls)}
        kept = {name: value for name, value in data.items() if name in known}
        return cls(**{**kept, "blocks": tuple(tuple(block) for block in data["blocks"])})


def blocks(records: Iterable[Record], slo: Slo) -> tuple[Block, ...]:
    """Counts of what kept each term, by stretches of BLOCK_S. A request without an answer kept none."""
    found: dict[int, list[int]] = {}
    for one in records:
        block = found.setdefault(int(one.scheduled_s // BLOCK_S), [0] * (1 + len(slo.terms)))
        block[0] += 1
        for i, term in enumerate(slo.terms, 1):
            value = FIGURES[term.figure](one) if one.outcome == "ok" else math.inf
            block[i] += value is None or value <= term.limit_s
    return tuple(tuple(found[key]) for key in sorted(found))


def _open_s(one: Record, from_s: float, until_s: float) -> float:
    return max(0.0, min(one.ended_s, until_s) - max(one.sent_s, from_s))


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return fmean(known) if known else 0.0


def _percentiles(values: Iterable[float | None]) -> dict[str, float]:
    known = [value for value in values if value is not None]
    mean = {"mean": 1000 * _mean(known)}
    return mean | {f"p{percent}": 1000 * percentile(known, percent) for percent in PERCENTILES}
