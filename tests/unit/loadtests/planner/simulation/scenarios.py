"""Small services to simulate."""

from __future__ import annotations

from typing import Any

from loadtests.loadgen import lengths, traffic
from loadtests.planner.simulation.fleet import Hardware
from loadtests.planner.simulation.scalers import Scaler, ScalerInputs, make
from loadtests.planner.simulation.world import SimulationRun, SimulationScenario, arrivals_rng, simulate
from loadtests.planner.tuning import oracle
from serve_app.config.schema import Autoscaling, IngressConfig, ModelConfig, Simulated

TIMING = Simulated(step_base_ms=20, step_per_sequence_ms=1, prefill_tokens_per_s=5000)


def scenario(
    load: str = "spike:base=2,peak=20,at=20,for=40,duration=120",
    tokens: str = "lognormal:prompt=64,output=48",
    *,
    startup_s: float = 5.0,
    per_gpu: int = 2,
    gpus: int | None = None,
    ingress: dict[str, Any] | None = None,
    seed: int = 0,
    **model: Any,
) -> SimulationScenario:
    entry = {
        "max_running": 8,
        "max_queued": 4,
        "autoscaling": Autoscaling(min_replicas=1, max_replicas=8, upscale_delay_s=2, downscale_delay_s=10),
    }
    return SimulationScenario(
        model=ModelConfig(id="m", engine="simulated", simulated=TIMING, **(entry | model)),
        traffic=traffic.parse(load),
        lengths=lengths.parse(tokens),
        hardware=Hardware(startup_s, per_gpu, gpus),
        ingress=IngressConfig(**(ingress or {})),
        seed=seed,
    )


def scaler(of: SimulationScenario, policy: str = "ours", capacity: float = 5.0) -> Scaler:
    settings = of.model.autoscaling
    assert settings is not None
    arrivals = list(of.traffic.arrivals(arrivals_rng(of.seed)))
    startup_s = of.hardware.startup_s
    inputs = ScalerInputs(
        settings,
        of.model.max_running,
        lambda: oracle.least(arrivals, capacity, startup_s, of.traffic.duration_s, max_replicas=settings.max_replicas),
    )
    return make(policy, inputs)


def run(of: SimulationScenario, policy: str = "ours") -> SimulationRun:
    return simulate(of, scaler(of, policy))
