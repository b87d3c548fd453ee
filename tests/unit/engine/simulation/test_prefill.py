"""When a sequence is heard of: prefills one after another at a finite speed, then a token a step, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.config.schema import Simulated
from serve_app.engine.simulation.batch import SimulatedBatch
from serve_app.engine.simulation.sequence import Sequence


def batch(max_running: int = 8, max_queued: int = 100, **timing: Any) -> SimulatedBatch:
    defaults: dict[str, Any] = {"prefill_tokens_per_s": 1000, "step_base_ms": 10, "step_per_sequence_ms": 1}
    return SimulatedBatch(Simulated(**defaults | timing), max_running, max_queued)


def run(work: SimulatedBatch) -> list[tuple[float, Sequence]]:
    """Everything heard until the batch is idle, with the time of each."""
    heard: list[tuple[float, Sequence]] = []
    while (at := work.next_at) is not None:
        heard += [(at, sequence) for sequence in work.step(at)]
    return heard


def test_a_cached_prompt_is_not_prefilled_again() -> None:
    work = batch()
    assert run(work) == [] and work.submit(0.0, 100, 1, cached_tokens=100).state == "prefilling"
    assert run(work)[0][0] == pytest.approx(0.01)


def test_no_output_ends_with_the_prefill() -> None:
    work = batch()
    sequence = work.submit(0.0, 100, 0)
    assert run(work) == [(pytest.approx(0.1), sequence)] and sequence.state == "finished"


def test_kv_usage_grows_by_the_tokens_emitted() -> None:
    work = batch(kv_tokens=100)
    work.submit(0.0, 10, 50)
    work.step(0.01 + 20 * 0.01 + 1e-6)
    assert work.kv_usage == pytest.approx(0.3)


def test_cancelling_a_prefill_starts_the_next() -> None:
    work = batch()
    long, short = work.submit(0.0, 10_000, 1), work.submit(0.0, 10, 1)
    work.cancel(1.0, long)
    run(work)
    assert short.ended_at == pytest.approx(1.02)


def test_time_that_was_due_must_be_taken_first() -> None:
    work = batch()
    work.submit(0.0, 10, 5)
    with pytest.raises(ValueError, match="comes first"):
        work.submit(1.0, 10, 5)
