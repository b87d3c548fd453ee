"""`serve-app simulate`: a service's balancing and autoscaling under a traffic, in virtual time.

The policy and the pool are the service's own; engines are the simulated ones, with a timing that is given or fitted to
measurements. Prints a line for each policy; with `--question gpus` how many GPUs the traffic takes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtests.arguments import BadSpec
from loadtests.planner.simulation import options
from loadtests.planner.simulation.calibrate import CannotCalibrate
from loadtests.planner.simulation.capacity import Capacity, measure
from loadtests.planner.simulation.options import SimulationOptions, UsageError
from loadtests.planner.simulation.policy_results import PolicyResult, curve, table
from loadtests.planner.simulation.study import Study, compare, fewest_gpus, settings_line
from loadtests.planner.simulation.world import SimulationRun
from loadtests.planner.tuning.knee import NeverHolds
from loadtests.results.plots import over_time, style
from serve_app.config.errors import ConfigError

INTERRUPTED = 130
NOTHING_SENT = 3


def main(argv: Sequence[str] | None = None) -> int:
    """0 when everything asked was simulated."""
    args = options.parser().parse_args(argv)
    try:
        asked = options.read(args)
        for fact in asked.facts:
            print(fact)
        found = measure(asked.scenario, asked.slo)
        print(f"one replica carries {found.knee.rate:.3g} requests/s within {asked.slo}")
        if args.question == "gpus":
            return _answer(asked, found, args.json)
        return _compare(asked, found, args.json, args.plot)
    except (BadSpec, UsageError, CannotCalibrate, ConfigError, NeverHolds, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED


def _compare(asked: SimulationOptions, found: Capacity, json_to: Path | None, plot_to: Path | None) -> int:
    study = Study.of(asked, found)
    source = "as the tuner would set it" if study.tuned else "as configured"
    print(f"autoscaling {source}: {settings_line(study.settings)}")
    rows: list[PolicyResult] = []
    runs: list[tuple[str, SimulationRun]] = []
    began = time.process_time()
    for figures, run in compare(asked, study):
        rows.append(figures)
        runs.append((figures.policy, run))
    print("\n" + table(rows, adapters=bool(asked.scenario.adapters)))
    complete = len(rows) == len(asked.policies) and rows[-1].until_s >= asked.scenario.traffic.duration_s
    if not complete:
        print(f"stopped: {rows[-1].policy} came to {rows[-1].until_s:.0f} s", file=sys.stderr)
    requests = sum(one.summary.requests for one in rows)
    if not requests:
        print("nothing was sent: by chance no request came; make the traffic longer", file=sys.stderr)
        return NOTHING_SENT
    print(f"{requests:,} requests simulated in {time.process_time() - began:.1f} s of CPU")
    if json_to:
        policies = [one.to_dict() | {"curve": curve(run)} for one, (_, run) in zip(rows, runs, strict=True)]
        _write(json_to, asked, found, {"autoscaling": study.settings.model_dump(), "policies": policies})
    if plot_to:
        shown = [over_time.ObservedRun(name, run.records, run.samples) for name, run in runs]
        style.png(over_time.policies(shown, study.scenario.traffic, asked.slo, study.best.points), plot_to)
    return 0 if complete else INTERRUPTED


def _answer(asked: SimulationOptions, found: Capacity, json_to: Path | None) -> int:
    tried: dict[int, PolicyResult] = {}

    def on_result(gpus: int, figures: PolicyResult) -> None:
        tried[gpus] = figures
        verdict = "hold" if figures.summary.slo_holds else "do not"
        print(
            f"{gpus} GPUs {verdict}: {figures.summary.share_within_slo:.2%} within the SLO,"
            f" {figures.summary.refused} refused, {figures.gpu_hours:,.2f} GPU-hours"
        )

    needed, interrupted = None, False
    try:
        needed = fewest_gpus(asked, found, on_result)
    except KeyboardInterrupt:
        interrupted = True
    per_gpu, most = asked.scenario.hardware.replicas_per_gpu, max(tried, default=0)
    if needed is not None:
        print(f"{needed} GPUs of {per_gpu} replicas hold {asked.slo} for this traffic")
    elif interrupted:
        print("stopped before the answer was found", file=sys.stderr)
    elif tried[most].peak_gpus == most:
        print(f"{most} GPUs of {per_gpu} replicas are not enough: allow more with --replicas")
    else:
        print(
            f"more GPUs do not help: {tried[most].policy} used {tried[most].peak_gpus} and misses the SLO while it"
            " reacts. Start replicas faster, keep more of them with --replicas FEWEST..MOST, or ask with --policy fixed"
        )
    if json_to:
        _write(json_to, asked, found, {"gpus": needed, "tried": {gpus: one.to_dict() for gpus, one in tried.items()}})
    return INTERRUPTED if interrupted else 1 if needed is None else 0


def _write(path: Path, asked: SimulationOptions, found: Capacity, results: dict[str, Any]) -> None:
    scenario = asked.scenario
    about = {
        "command": sys.argv[1:],
        "slo": str(asked.slo),
        "timing": scenario.model.simulated.model_dump() if scenario.model.simulated else None,
        "hardware": asdict(scenario.hardware),
        "knee": found.knee.to_dict(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about | results, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
