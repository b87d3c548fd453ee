"""Of the packings measured on a GPU, the one that carries most is written, and each replica's share of it derived."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from loadtests.bench.peers.configured import ConfiguredModel
from loadtests.bench.peers.peer import DidNotServe
from loadtests.loadgen import traffic
from loadtests.planner.tuning import knee, prove, tuner
from loadtests.planner.tuning.job import Effort, TuningJob
from loadtests.planner.tuning.knee import Search
from loadtests.planner.tuning.measure import RequestSpec
from loadtests.planner.tuning.packing import PACKINGS, best, is_past_best
from loadtests.planner.tuning.state import State
from loadtests.planner.tuning.tuner import derive_numbers, measure_replica, write_configuration
from tests.unit.loadtests.planner.tuning.replica import SLO, Replica

SHAPE = "steady:rate=30,duration=60"
CARRIED = {1: 10.0, 2: 18.0, 4: 24.0, 8: 20.0}
"""Requests/s of one GPU within the SLO, by replicas on it."""
CONFIG = """\
applications:
  - name: lfm2
    route_prefix: /
    import_path: serve_app.app:build
    args:
      gpu_memory_gib: 80
      models:
        - {id: LiquidAI/LFM2-1.2B, gpus: 1, cpus: 1}
"""


@pytest.fixture
def job(tmp_path: Path) -> TuningJob:
    """With everything measured that two GPUs are measured for."""
    config = tmp_path / "x.yaml"
    config.write_text(CONFIG)
    source = ConfiguredModel.find(config, "LFM2-1.2B")
    state = State(tmp_path / "x.tuned.json", {}, {"date": "2026-01-01"}, [30.0])
    for count, carried in CARRIED.items():
        gpu = Replica(carried)
        state.knees[str(count)] = knee.find(gpu.measure, SLO, Search(carried / 2))
        again = Replica(carried)
        state.steps += [replace(again.measure(rate, 0), replicas_per_gpu=count) for rate in sorted(set(gpu.rates))]
    asked = RequestSpec(source.model.id, "fixed:prompt=64,output=20", "chat", 1, SLO)
    shape = traffic.parse(SHAPE)
    path = tmp_path / "x.tuned.yaml"
    return TuningJob(source, asked, shape, SHAPE, Effort(), 2, None, prove.Criteria(), [], state, path, "x.html")


def test_what_is_measured_is_not_measured_again(job: TuningJob) -> None:
    assert set(CARRIED) == set(PACKINGS)
    measure_replica(job)
    assert not job.state.skipped


def test_the_packing_that_carries_most_is_written(job: TuningJob) -> None:
    assert best(job.state.knees) == 4
    found = derive_numbers(job)
    write_configuration(job)
    entry = yaml.safe_load(job.tuned_path.read_text())["applications"][0]["args"]["models"][0]
    assert entry["replicas_per_gpu"] == 4 and "gpus" not in entry
    assert found.capacity == pytest.approx(CARRIED[4] / 4, rel=0.15)
    assert entry["autoscaling"]["max_replicas"] == min(8, -(-30 // (found.capacity * found.utilisation))), "two GPUs"


def test_no_denser_packing_is_tried_once_one_carries_less(job: TuningJob) -> None:
    knees = job.state.knees
    assert not is_past_best({}) and not is_past_best({name: knees[name] for name in ("1", "2", "4")})
    assert is_past_best({**knees, "8": replace(knees["8"], rate=knees["4"].rate / 2)})


def test_a_packing_that_does_not_start_ends_the_search_and_not_the_tuning(
    job: TuningJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_start(job: TuningJob, count: int | None) -> None:
        raise DidNotServe(f"measured-{count} ended with 1: does not fit")

    monkeypatch.setattr(tuner, "find_knee", no_start)
    for name in ("4", "8"):
        del job.state.knees[name]
    measure_replica(job)
    assert list(job.state.skipped) == ["packing-4"] and "does not fit" in job.state.skipped["packing-4"]
    assert best(job.state.knees) == 2
    job.state.knees.clear()
    with pytest.raises(DidNotServe):
        measure_replica(job)


def test_a_contender_that_fails_takes_nothing_from_the_proof(job: TuningJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def only_ours(job: TuningJob, name: str, *_: object) -> None:
        if name != "tuned":
            raise DidNotServe(f"{name} ended with 1")
        job.state.replays[name] = {}

    derive_numbers(job)
    write_configuration(job)
    monkeypatch.setattr(tuner, "replay", only_ours)
    tuner.prove_configuration(replace(job, contenders=["default", "serve"]))
    assert list(job.state.replays) == ["tuned"]
    assert list(job.state.skipped) == ["replay-default", "replay-serve"]
