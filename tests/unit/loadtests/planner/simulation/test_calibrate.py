"""Timing fitted to measurements: what the measurements were made with comes out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadtests.loadgen import lengths, traffic
from loadtests.planner.simulation.calibrate import CannotCalibrate, fit
from loadtests.planner.simulation.fleet import Hardware
from loadtests.planner.simulation.scalers import Scaler
from loadtests.planner.simulation.world import SimulationScenario, simulate
from loadtests.planner.tuning.step import Step
from loadtests.results.slo import Slo
from serve_app.config.schema import ModelConfig, Simulated

SLO = Slo.parse("ttft_p95=500ms,tpot_p95=40ms")


def measured(timing: Simulated, tokens: str, rates: tuple[float, ...], seconds: float = 200) -> list[Step]:
    """One replica of this timing, measured as the tuner does."""
    model = ModelConfig(id="m", engine="simulated", max_running=64, simulated=timing, replicas=1)
    steady = SimulationScenario(model, traffic.steady(1, seconds), lengths.parse(tokens), Hardware(0.0))
    steps = []
    for rate in rates:
        run = simulate(replace(steady, traffic=traffic.steady(rate, seconds)), Scaler(lambda seen: 1, 1))
        steps.append(Step.of(run.records, SLO, rate, seconds))
    return steps


@pytest.mark.parametrize("chunk", [None, 2048])
@pytest.mark.parametrize(
    "base_ms, per_sequence_ms, prefill, tokens, rates",
    [
        (10, 0.5, 20_000, "fixed:prompt=256,output=128", (0.5, 2, 6)),
        (10, 0.5, 20_000, "lognormal:prompt=256,output=128", (0.5, 2, 5)),
        (6, 0.1, 50_000, "lognormal:prompt=512,output=200", (1, 5, 15)),
        (30, 2, 2_000, "fixed:prompt=128,output=64", (0.5, 2, 4)),
    ],
)
def test_known_parameters_come_back(
    chunk: int | None, base_ms: float, per_sequence_ms: float, prefill: float, tokens: str, rates: tuple[float, ...]
) -> None:
    timing = Simulated(
        step_base_ms=base_ms,
        step_per_sequence_ms=per_sequence_ms,
        prefill_tokens_per_s=prefill,
        prefill_chunk_tokens=chunk,
        kv_tokens=1_000_000,
    )
    found = fit(measured(timing, tokens, rates), Simulated(prefill_chunk_tokens=chunk))
    assert found.timing.step_base_ms == pytest.approx(base_ms, rel=0.03)
    assert found.timing.step_per_sequence_ms == pytest.approx(per_sequence_ms, rel=0.15)
    assert found.timing.prefill_tokens_per_s == pytest.approx(prefill, rel=0.2)
    assert found.timing.prefill_chunk_tokens == chunk
    assert found.tpot_error < 0.02 and found.ttft_error < 0.1


def test_one_rate_does_not_determine_a_line() -> None:
    with pytest.raises(CannotCalibrate, match="two rates"):
        fit(measured(Simulated(), "fixed:prompt=256,output=128", (1, 1)), Simulated())


def test_measurements_at_which_requests_pile_up_are_left_out() -> None:
    timing = Simulated(step_base_ms=10, step_per_sequence_ms=0.5)
    steps = measured(timing, "fixed:prompt=64,output=128", (1, 3, 40), seconds=60)
    found = fit(steps, Simulated())
    assert found.steps == 2
    assert found.timing.step_base_ms == pytest.approx(10, rel=0.05)
