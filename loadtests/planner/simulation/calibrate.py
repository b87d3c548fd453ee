"""The simulated engine's timing from measurements of a real replica, by least squares. Pure functions.

What a measurement under load says of the timing (`serve_app/engine/simulation/batch.py`):
- TPOT. A sequence decodes beside N others; with Poisson arrivals N is also the mean number being decoded, by Little's
  law output tokens/s x TPOT. So TPOT = base + per_sequence x N. Prompts carried in chunks stretch the steps by
  1 / (1 - u), u being the share of the time that is spent on prompts.
- TTFT. A prompt of P tokens waits for those before it (M/D/1: u P/R / (2 (1 - u))) and takes P/R; then half a step
  until the next begins (only while others decode: with probability 1 - exp(-N)), and a step; in chunks, one for each.

For a given prefill speed R the first is linear in base and per_sequence; R is the one whose squared relative errors of
both together are least, found on a grid that is refined. Measurements at which requests pile up are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.planner.tuning.step import Step
from serve_app.config.schema import Simulated

MOST_PREFILL = 0.7
"""A measurement whose prompts would take more of the time than this is left out where that speed is tried."""
QUEUED = 2.0
"""A TTFT so many times the least is mostly the wait for a place in the batch: that measurement is left out."""
GRID = 60
REFINEMENTS = 4


class CannotCalibrate(ValueError):
    """The measurements do not determine the timing; says why."""


@dataclass(frozen=True)
class Fit:
    """A timing, and how well it explains the measurements that it is from."""

    timing: Simulated
    tpot_error: float
    """Root mean square of the relative errors."""
    ttft_error: float
    steps: int
    """Measurements that the fit is from."""


def fit(steps: Sequence[Step], base: Simulated, path_s: float = 0.0) -> Fit:
    """`base` with `prefill_tokens_per_s`, `step_base_ms` and `step_per_sequence_ms` as measured.

    Its `prefill_chunk_tokens` says how prompts are carried. `path_s` is what the way to the engine adds to each TTFT.
    Raises CannotCalibrate.
    """
    answered = [one for one in steps if one.outcomes["ok"] == one.requests > 0]
    most_ms = QUEUED * min((_typical(one.ttft_ms) for one in answered), default=0.0)
    used = [one for one in answered if _typical(one.ttft_ms) <= most_ms]
    if len({one.rate for one in used}) < 2:
        raise CannotCalibrate(
            f"in {len(used)} of {len(steps)} measurements no request waited for a place; the timing needs two rates at"
            " which none does"
        )
    chunk = base.prefill_chunk_tokens
    low, high = math.log(10.0), math.log(1e8)
    best = _FitAtSpeed.of(math.exp(low), used, chunk, path_s)
    for _ in range(REFINEMENTS):
        width = (high - low) / GRID
        tried = [_FitAtSpeed.of(math.exp(low + i * width), used, chunk, path_s) for i in range(GRID + 1)]
        best = min((best, *tried), key=lambda one: one.error)
        low, high = math.log(best.prefill_tokens_per_s) - width, math.log(best.prefill_tokens_per_s) + width
    update = {
        "prefill_tokens_per_s": best.prefill_tokens_per_s,
        "step_base_ms": best.base_s * 1000,
        "step_per_sequence_ms": best.per_sequence_s * 1000,
    }
    return Fit(base.model_copy(update=update), _rms(best.tpot_errors), _rms(best.ttft_errors), len(used))


@dataclass(frozen=True)
class _FitAtSpeed:
    """The best base and slope of a decode step for one prefill speed, and what they leave unexplained."""

    prefill_tokens_per_s: float
    base_s: float
    per_sequence_s: float
    tpot_errors: tuple[float, ...]
    ttft_errors: tuple[float, ...]

    @property
    def error(self) -> float:
        return _rms(self.tpot_errors) ** 2 + _rms(self.ttft_errors) ** 2 if self.ttft_errors else math.inf

    @classmethod
    def of(cls, prefill_tokens_per_s: float, steps: Sequence[Step], chunk: int | None, path_s: float) -> _FitAtSpeed:
        usable = [one for one in steps if _prefilling(one, prefill_tokens_per_s) <= MOST_PREFILL]
        if len({one.rate for one in usable}) < 2:
            return cls(prefill_tokens_per_s, math.nan, math.nan, (), ())
        stretches = [1 / (1 - _prefilling(one, prefill_tokens_per_s)) if chunk else 1.0 for one in usable]
        measured = [_typical(one.tpot_ms) / 1000 for one in usable]
        base, per = _line(list(zip(map(_decoding, usable), stretches, measured, strict=True)))
        tpots = [(base + per * _decoding(one)) * stretch for one, stretch in zip(usable, stretches, strict=True)]
        tpot_errors = tuple(found / real - 1 for found, real in zip(tpots, measured, strict=True))
        ttft_errors = tuple(
            _ttft_s(one, prefill_tokens_per_s, step_s, chunk) / max(1e-6, _typical(one.ttft_ms) / 1000 - path_s) - 1
            for one, step_s in zip(usable, tpots, strict=True)
        )
        return cls(prefill_tokens_per_s, base, per, tpot_errors, ttft_errors)


def _ttft_s(step: Step, prefill_tokens_per_s: float, step_s: float, chunk: int | None) -> float:
    prefill_s, used = step.prompt_tokens / prefill_tokens_per_s, _prefilling(step, prefill_tokens_per_s)
    others = 1 - math.exp(-_decoding(step))
    further_chunks = step.prompt_tokens // chunk if chunk else 0
    return prefill_s + used * prefill_s / (2 * (1 - used)) + step_s * (1 + others / 2 + further_chunks)


def _line(points: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """(base, slope), neither below 0, of (base + slope x) k = y for points (x, k, y), by least squared relative
    errors."""
    from scipy.optimize import nnls  # half a second that a command's --help can do without

    (base, slope), _ = nnls([[k / y, k * x / y] for x, k, y in points], [1.0] * len(points))
    return max(1e-6, float(base)), float(slope)


def _decoding(step: Step) -> float:
    """Sequences being decoded, on average."""
    return _arrived_rate(step) * step.output_tokens * _typical(step.tpot_ms) / 1000


def _prefilling(step: Step, prefill_tokens_per_s: float) -> float:
    """Share of the time that prompts take."""
    return _arrived_rate(step) * step.prompt_tokens / prefill_tokens_per_s


def _arrived_rate(step: Step) -> float:
    """Offered, as it came: a short measurement's Poisson arrivals are seldom exactly as many as meant."""
    return step.requests / step.seconds


def _typical(figures: dict[str, float]) -> float:
    """The mean where it was measured, else the median."""
    return figures.get("mean", figures["p50"])


def _rms(errors: Sequence[float]) -> float:
    return math.sqrt(sum(one * one for one in errors) / len(errors)) if errors else 0.0
