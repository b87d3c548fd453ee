"""`python -m loadtests.planner.simulation.validate`: the simulator beside reality.

The same scenario is run for real and simulated, and it is said how far they differ. For real: Ray Serve with this
service's own policy on this machine, simulated engines behind it, Locust in front. The simulator gets the timing that
the engines have, the very requests that Locust sent, and the start-up time that replicas took meanwhile; goodput and
replica-seconds are its own predictions. With `--tuned FILE.json` the tuner's replay of its own configuration is what
was run for real, and the timing is fitted to the tuner's measurements.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from loadtests.bench.peers.configured import ConfiguredModel, configured
from loadtests.bench.peers.peer import RunningPeer
from loadtests.loadgen import traffic
from loadtests.loadgen.lengths import TracedLengths
from loadtests.planner.simulation import calibrate, scalers
from loadtests.planner.simulation.calibrate import CannotCalibrate
from loadtests.planner.simulation.fleet import Hardware
from loadtests.planner.simulation.scalers import ScalerInputs
from loadtests.planner.simulation.world import SimulationRun, SimulationScenario, simulate
from loadtests.planner.tuning.measure import RequestSpec, ServiceUnderTest
from loadtests.planner.tuning.oracle import Oracle
from loadtests.planner.tuning.state import State
from loadtests.results import record, replicas, tables
from loadtests.results.record import Record
from loadtests.results.replicas import ReplicaCounts
from loadtests.results.slo import Slo
from loadtests.results.summary import Summary
from serve_app.config.errors import ConfigError
from serve_app.config.schema import IngressConfig, ModelConfig, Simulated
from serve_app.launching.environment import free_ports

TOLERANCE = 0.15
"""How far the simulator may be off where it promises a figure, as a share of the real one."""
MODEL = "simulated"
TRAFFIC = "spike:base=2,peak=12,at=30,for=40,duration=110"
LENGTHS = "lognormal:prompt=64,output=64"
SLO = "ttft_p95=1s,tpot_p95=60ms"
STARTUP_S = 5.0
ENTRY: dict[str, Any] = {
    "id": MODEL,
    "engine": "simulated",
    "cpus": 0.1,
    "max_running": 8,
    "max_queued": 8,
    "autoscaling": {"min_replicas": 1, "max_replicas": 6, "upscale_delay_s": 2, "downscale_delay_s": 15},
    "simulated": {"step_base_ms": 30, "step_per_sequence_ms": 1, "prefill_tokens_per_s": 5000, "startup_s": STARTUP_S},
}
"""The model's entry: a few replicas, slow enough for a machine with two cores."""


@dataclass(frozen=True)
class Compared:
    """One figure, measured and predicted."""

    name: str
    real: float
    simulated: float
    judged: bool
    """Whether the simulator promises it within TOLERANCE."""

    @property
    def error(self) -> float:
        return self.simulated / self.real - 1 if self.real else 0.0

    @property
    def holds(self) -> bool:
        return not self.judged or abs(self.error) <= TOLERANCE


def run_for_real(
    load: str, entry: dict[str, Any], folder: Path
) -> tuple[ConfiguredModel, list[Record], list[ReplicaCounts]]:
    """Start the service, put the load on it, and watch its replicas."""
    config = folder / "service.yaml"
    args = {"models": [entry], "ingress": {"cpus": 0.1}}
    application = {"name": "lfm2", "route_prefix": "/", "import_path": "serve_app.app:build", "args": args}
    config.write_text(yaml.safe_dump({"applications": [application]}))
    source = ConfiguredModel.find(config, entry["id"])
    peer = configured("real", source, entry, free_ports(1)[0], folder, 1)
    asked = RequestSpec(entry["id"], LENGTHS, "chat", seed=1, slo=Slo.parse(SLO))
    with RunningPeer(peer, source.setup, folder) as running:
        title = f"ray::ServeReplica:lfm2:{entry['id']}"
        records, samples, _ = ServiceUnderTest(running, asked, folder).replay(load, folder / "records.jsonl", title)
    return source, records, samples


def run_simulated(
    model: ModelConfig,
    ingress: IngressConfig,
    records: Sequence[Record],
    samples: Sequence[ReplicaCounts],
    duration_s: float,
) -> SimulationRun:
    """Simulate the requests that were recorded, at the times they were due, with replicas that start as fast as those
    in `samples` did."""
    settings, startups = model.autoscaling, replicas.startups(samples)
    assert settings is not None
    times = tuple(one.scheduled_s for one in records)
    scenario = SimulationScenario(
        model=model,
        traffic=traffic.Traffic(((0.0, 0.0), (duration_s, 0.0)), times),
        lengths=TracedLengths(tuple((one.prompt_tokens, max(1, one.output_tokens)) for one in records)),
        hardware=Hardware(median(startups) if startups else STARTUP_S),
        ingress=ingress,
    )
    return simulate(
        scenario, scalers.make("ours", ScalerInputs(settings, model.max_running, lambda: Oracle(1.0, (1,))))
    )


def compare(
    real: Sequence[Record], samples: Sequence[ReplicaCounts], run: SimulationRun, slo: Slo, duration_s: float
) -> list[Compared]:
    """Figures of the real and the simulated run beside each other, over the traffic's duration."""
    measured, predicted = Summary.of(real, slo), Summary.of(run.records, slo)
    spent, expected = (replicas.replica_seconds(one, duration_s) for one in (samples, run.samples))
    return [
        Compared("requests within the SLO", measured.within_slo, predicted.within_slo, True),
        Compared("replica-seconds", spent, expected, True),
        Compared("most replicas", _peak(samples), _peak(run.samples), False),
        Compared("requests answered", measured.ok, predicted.ok, False),
        Compared("TTFT p50, ms", 1000 * measured.ttft_s[50], 1000 * predicted.ttft_s[50], False),
        Compared("TTFT p95, ms", 1000 * measured.ttft_s[95], 1000 * predicted.ttft_s[95], False),
        Compared("TPOT p50, ms", 1000 * measured.tpot_s[50], 1000 * predicted.tpot_s[50], False),
    ]


def validate(load: str, entry: dict[str, Any], folder: Path) -> list[Compared]:
    """Run a model's entry for real and simulated under a load, one after the other."""
    duration_s = traffic.parse(load).duration_s
    source, records, samples = run_for_real(load, entry, folder)
    run = run_simulated(source.model, source.service.ingress, records, samples, duration_s)
    return compare(records, samples, run, Slo.parse(SLO), duration_s)


def validate_tuned(path: Path) -> list[Compared]:
    """A tuner's proof, of the configuration it wrote beside `path`, against the simulator on its measurements."""
    state = State.read(path)
    source = ConfiguredModel.find(path.with_suffix(".yaml"), state.asked["model"])
    replay = state.replays["tuned"]
    records = record.read(path.with_name(replay["records"]))
    samples = [ReplicaCounts(**one) for one in replay["samples"]]
    duration_s = traffic.parse(state.asked["traffic"]).duration_s
    timing = calibrate.fit(state.steps, source.model.simulated or Simulated()).timing
    model = source.model.model_copy(update={"simulated": timing})
    run = run_simulated(model, source.service.ingress, records, samples, duration_s)
    return compare(records, samples, run, Slo.parse(state.asked["slo"]), duration_s)


def _peak(samples: Sequence[ReplicaCounts]) -> int:
    return max(one.occupied for one in samples)


def _row(one: Compared) -> tuple[str, ...]:
    verdict = "" if not one.judged else f"within {TOLERANCE:.0%}" if one.holds else f"NOT within {TOLERANCE:.0%}"
    return one.name, f"{one.real:.1f}", f"{one.simulated:.1f}", f"{one.error:+.1%}", verdict


def main(argv: Sequence[str] | None = None) -> int:
    """0 when all that is promised holds."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.planner.simulation.validate", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--traffic", default=TRAFFIC, help="default: %(default)s")
    parser.add_argument("--tuned", type=Path, help="a tuner's JSON: its replay is what was run for real")
    args = parser.parse_args(argv)
    if args.tuned:
        try:
            found = validate_tuned(args.tuned)
        except (OSError, KeyError, ValueError, CannotCalibrate, ConfigError) as error:
            print(f"{args.tuned} and what its tuner kept beside it are needed whole: {error}", file=sys.stderr)
            return 2
    else:
        try:
            traffic.parse(args.traffic)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        with tempfile.TemporaryDirectory(prefix="validate-") as folder:
            found = validate(args.traffic, ENTRY, Path(folder))
    if not any(one.real for one in found if one.judged):
        print("nothing was answered for real: there is nothing to compare", file=sys.stderr)
        return 1
    print(tables.aligned([("", "real", "simulated", "", ""), *map(_row, found)], sides="lrrrl"))
    return 0 if all(one.holds for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
