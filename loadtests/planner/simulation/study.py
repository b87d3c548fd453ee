"""The two questions of the simulator: which policy serves a scenario best, and how many GPUs hold it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tqdm import tqdm

from loadtests.planner.simulation import capacity, scalers
from loadtests.planner.simulation.capacity import Capacity
from loadtests.planner.simulation.options import SimulationOptions, on_gpus
from loadtests.planner.simulation.policy_results import PolicyResult
from loadtests.planner.simulation.scalers import ScalerInputs
from loadtests.planner.simulation.world import OnProgress, SimulationRun, SimulationScenario, arrivals_rng, simulate
from loadtests.planner.tuning import oracle
from loadtests.planner.tuning.oracle import Oracle
from serve_app.config.schema import Autoscaling

BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"


@dataclass(frozen=True)
class Study:
    """A scenario with the settings that policies get, and the oracle they are measured by."""

    scenario: SimulationScenario
    settings: Autoscaling
    best: Oracle
    tuned: bool
    """Whether the settings were derived from one replica's capacity; otherwise they are the configuration's own."""

    @classmethod
    def of(cls, asked: SimulationOptions, found: Capacity) -> Study:
        """With the configuration's own autoscaling, or what the tuner would make of one replica's capacity."""
        scenario, model = asked.scenario, asked.scenario.model
        tuned = model.autoscaling is None
        if tuned:
            model = capacity.applied(model, capacity.tuned(model, found, scenario, asked.slo, asked.bounds))
        assert model.autoscaling is not None
        low, high = asked.bounds
        first = model.autoscaling.initial_replicas
        changed = {"min_replicas": low, "max_replicas": high} | (
            {} if first is None else {"initial_replicas": min(high, max(low, first))}
        )
        settings = model.autoscaling.model_copy(update=changed)
        model = model.model_copy(update={"autoscaling": settings})
        arrivals = list(scenario.traffic.arrivals(arrivals_rng(scenario.seed)))
        best = oracle.least(
            arrivals,
            found.knee.rate,
            scenario.hardware.startup_s,
            scenario.traffic.duration_s,
            min_replicas=low,
            max_replicas=high,
        )
        return cls(replace(scenario, model=model), settings, best, tuned)

    def run(self, policy: str, progress: OnProgress = lambda share: None) -> SimulationRun:
        """The scenario under one policy, such as `keda:threshold=20`; raises BadSpec."""
        inputs = ScalerInputs(self.settings, self.scenario.model.max_running, lambda: self.best)
        return simulate(self.scenario, scalers.make(policy, inputs), progress)


def compare(asked: SimulationOptions, study: Study) -> Iterator[tuple[PolicyResult, SimulationRun]]:
    """Each policy's figures as they come; the last may be of an interrupted run."""
    for policy in asked.policies:
        with bar(policy) as progress:
            run = study.run(policy, progress)
        yield _figures(asked, study, policy, run), run
        if run.until_s < study.scenario.traffic.duration_s:
            return


def fewest_gpus(
    asked: SimulationOptions, found: Capacity, on_result: Callable[[int, PolicyResult], None]
) -> int | None:
    """The fewest GPUs with which the SLO holds over all requests, by growing and bisection.

    None if more would not help: there may be no more, or the first policy leaves some unused and still misses the SLO.
    More GPUs are taken to be never worse. `on_result` is called with each number tried and what came of it. Raises
    KeyboardInterrupt.
    """
    policy, per_gpu = asked.policies[0], asked.scenario.hardware.replicas_per_gpu

    def on(gpus: int) -> PolicyResult:
        study = Study.of(on_gpus(asked, gpus), found)
        with bar(f"{policy} on {gpus} GPUs") as progress:
            run = study.run(policy, progress)
        if run.until_s < study.scenario.traffic.duration_s:
            raise KeyboardInterrupt
        figures = _figures(asked, study, policy, run)
        on_result(gpus, figures)
        return figures

    most = math.ceil(asked.bounds[1] / per_gpu)
    mean = asked.scenario.traffic.expected() / asked.scenario.traffic.duration_s
    failed, tried = 0, min(most, max(1, math.ceil(mean / found.knee.rate / per_gpu)))
    while not (figures := on(tried)).summary.slo_holds:
        if tried == most or figures.peak_gpus < tried:
            return None
        failed, tried = tried, min(most, math.ceil(tried * 1.5))
    while tried - failed > 1:
        middle = (tried + failed) // 2
        if on(middle).summary.slo_holds:
            tried = middle
        else:
            failed = middle
    return tried


@contextmanager
def bar(name: str) -> Iterator[OnProgress]:
    """A progress bar with the time left, where somebody watches."""
    with tqdm(total=1.0, desc=name, bar_format=BAR, leave=False, disable=not sys.stderr.isatty()) as shown:
        yield lambda share: shown.update(share - shown.n)


def settings_line(settings: Autoscaling) -> str:
    """The settings in a line, for people."""
    return ", ".join(f"{key} {value:g}" for key, value in settings.model_dump(exclude_none=True).items())


def _figures(asked: SimulationOptions, study: Study, policy: str, run: SimulationRun) -> PolicyResult:
    settings = study.settings
    return PolicyResult.of(policy, run, asked.slo, study.best, settings.downscale_delay_s, settings.standby_cost)
