"""A comparison over time as a PNG: what came, how many replicas there were, and how it was served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loadtests.planner.simulation.world import SimulationRun, SimulationScenario
from loadtests.planner.tuning.oracle import Oracle
from loadtests.results.record import Record
from loadtests.results.slo import Slo

BINS = 120
"""Points of a curve of requests."""


def draw(
    path: Path, scenario: SimulationScenario, slo: Slo, best: Oracle, runs: Sequence[tuple[str, SimulationRun]]
) -> None:
    """One panel each for load, replicas, service within the SLO, and queue."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (load, replicas, within, queue) = pyplot.subplots(4, 1, figsize=(10, 11), sharex=True)
    width = scenario.traffic.duration_s / BINS
    times = [(i + 0.5) * width for i in range(BINS)]
    load.plot(times, [scenario.traffic.rate_at(t) for t in times], color="black")
    load.set_ylabel("requests/s")
    starts = [i * best.step_s for i in range(len(best.replicas))]
    replicas.step(starts, best.replicas, where="post", color="black", linestyle="--", label="oracle's plan")
    for name, run in runs:
        at = [one.at_s for one in run.samples]
        replicas.step(at, [one.occupied for one in run.samples], where="post", label=name)
        within.plot(times, _within(run.records, slo, width), label=name)
        queue.plot(at, [one.queued for one in run.samples], label=name)
    replicas.set_ylabel("replicas, those starting\nand draining included")
    replicas.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False)
    within.set_ylabel("within the SLO")
    within.set_ylim(-0.03, 1.03)
    queue.set_ylabel("requests waiting")
    queue.set_yscale("symlog")
    queue.set_xlabel("s")
    for axis in (load, replicas, queue):
        axis.set_ylim(bottom=0)
    figure.suptitle(f"simulated; SLO {slo}", fontsize=10)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _within(records: Sequence[Record], slo: Slo, width_s: float) -> list[float]:
    """Share of the requests due in each bin; not a number where none was."""
    good, all = [0] * BINS, [0] * BINS
    for one in records:
        at = min(BINS - 1, int(one.scheduled_s / width_s))
        all[at] += 1
        good[at] += slo.within(one)
    return [part / whole if whole else float("nan") for part, whole in zip(good, all, strict=True)]
