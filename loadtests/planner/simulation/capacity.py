"""What one simulated replica carries, found by the tuner's own search; and a model with the tuner's numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from random import Random
from statistics import fmean

from loadtests.loadgen import traffic
from loadtests.planner.simulation.fleet import Hardware
from loadtests.planner.simulation.scalers import Scaler
from loadtests.planner.simulation.world import SimulationScenario, simulate
from loadtests.planner.tuning import knee
from loadtests.planner.tuning.derive import Constraints, Derived, derive
from loadtests.planner.tuning.knee import Knee, Search
from loadtests.planner.tuning.step import Step
from loadtests.results.slo import Slo
from serve_app.config.schema import ModelConfig, Simulated

REQUESTS = 2000
"""Requests of one measurement, at least."""
SECONDS = 60.0
"""How long one measurement is, at least, s of virtual time."""


@dataclass(frozen=True)
class Capacity:
    """The knee of one replica, and the measurements that it was found from."""

    knee: Knee
    steps: tuple[Step, ...]


def measure(scenario: SimulationScenario, slo: Slo) -> Capacity:
    """The highest rate of the scenario's requests at which one replica keeps the SLO. Raises knee.NeverHolds.

    It is asked for no more adapters than it has room for: routing keeps those of others away from it.
    """
    room = scenario.model.adapters.max_loaded if scenario.model.adapters else 0
    one = replace(scenario, hardware=Hardware(0.0), adapters=dict(islice(scenario.adapters.items(), room)))
    steps: list[Step] = []

    def at(rate: float, before: int) -> Step:
        seconds = max(SECONDS, REQUESTS / rate)
        load = replace(one, traffic=traffic.steady(rate, seconds), seed=scenario.seed + before)
        run = simulate(load, Scaler(lambda seen: 1, 1))
        if run.until_s < seconds:
            raise KeyboardInterrupt
        steps.append(Step.of(run.records, slo, rate, seconds))
        return steps[-1]

    found = knee.find(at, slo, Search(first=_half_throughput(scenario), tolerance=0.05))
    return Capacity(found, tuple(steps))


def tuned(
    model: ModelConfig, found: Capacity, scenario: SimulationScenario, slo: Slo, bounds: tuple[int, int]
) -> Derived:
    """The tuner's numbers for the scenario's traffic within these bounds of replicas."""
    limits = Constraints(max_running=model.max_running, max_replicas=bounds[1], min_replicas=bounds[0])
    return derive(found.knee, found.steps, scenario.hardware.startup_s, slo, scenario.traffic, limits)


def applied(model: ModelConfig, numbers: Derived) -> ModelConfig:
    """The model with the tuner's numbers in its entry."""
    entry = model.model_dump(exclude_unset=True)
    for one in numbers.numbers:
        section, dot, key = one.key.rpartition(".")
        if dot:
            entry.setdefault(section, {})[key] = one.value
        else:
            entry[one.key] = one.value
    return ModelConfig.model_validate(entry)


def _half_throughput(scenario: SimulationScenario) -> float:
    """Requests/s at half of what a full batch decodes, to begin with."""
    timing = scenario.model.simulated or Simulated()
    rng, running = Random(0), scenario.model.max_running
    output = fmean(scenario.lengths.draw(rng, i)[1] for i in range(1000))
    step_s = (timing.step_base_ms + timing.step_per_sequence_ms * (running - 1)) / 1000
    return running / step_s / output / 2
