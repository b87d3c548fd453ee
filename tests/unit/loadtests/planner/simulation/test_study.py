"""The questions the command answers, on one replica whose capacity is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests import simulate
from loadtests.planner.simulation import capacity, options, study
from loadtests.planner.simulation.capacity import measure
from loadtests.planner.simulation.policy_results import PolicyResult
from serve_app.config.schema import ServiceConfig

TIMING = ["--timing", "step_base_ms=10,step_per_sequence_ms=0.5", "--max-running", "16", "--max-queued", "8"]
SPIKE = ["--traffic", "spike:base=4,peak=24,at=20,for=30,duration=80", "--lengths", "fixed:prompt=64,output=64"]

LITTLE = "fixed:prompt=16,output=8"


@pytest.fixture(autouse=True)
def brief_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one replica carries is found to a few percent, which no answer here depends on."""
    monkeypatch.setattr(capacity, "REQUESTS", 500)
    monkeypatch.setattr(capacity, "SECONDS", 30.0)


def test_policies_are_told_apart_by_commas_before_names() -> None:
    assert options._policies("ours,keda:threshold=5,polling=15,fixed:3,oracle") == [
        *("ours", "keda:threshold=5,polling=15", "fixed:3", "oracle")
    ]


def test_a_comparison_prints_a_line_each_and_writes_curves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, plot = tmp_path / "out.json", tmp_path / "out.png"
    arguments = [*TIMING, *SPIKE, "--startup", "3s", "--replicas", "1..6", "--json", str(output), "--plot", str(plot)]
    assert simulate.main([*arguments, "--policy", "ours,fixed:6"]) == 0
    told = capsys.readouterr().out
    assert "one replica carries" in told and "fixed:6  100.00%" in told
    written = json.loads(output.read_text())
    ours, fixed = written["policies"]
    assert fixed["replica_seconds"] == pytest.approx(6 * 80)
    assert ours["replica_seconds"] < fixed["replica_seconds"]
    assert len(ours["curve"]["at_s"]) == len(ours["curve"]["gpus"])
    assert plot.stat().st_size > 10_000


def test_the_fewest_gpus_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*TIMING, "--traffic", "steady:rate=60,duration=60", "--lengths", "fixed:prompt=64,output=64"]
    args = options.parser().parse_args([*arguments, "--replicas-per-gpu", "2", "--policy", "fixed"])
    asked = options.read(args)
    found = measure(asked.scenario, asked.slo)
    tried: dict[int, PolicyResult] = {}
    needed = study.fewest_gpus(asked, found, tried.__setitem__)
    assert needed is not None
    assert needed == pytest.approx(60 / found.knee.rate / 2, abs=1.01)
    assert tried[needed].summary.slo_holds and not tried[needed - 1].summary.slo_holds


def test_more_gpus_do_not_mend_a_late_reaction(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main([*TIMING, *SPIKE, "--startup", "20s", "--question", "gpus"]) == 1
    assert "more GPUs do not help" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--traffic", "steady:rate=1"], "how fast is a replica?"),
        (["--traffic", "stead:rate=1", *TIMING], "did you mean 'steady'"),
        (["--traffic", "steady:rate=1", "--timing", "step_base=10"], "did you mean 'step_base_ms'"),
        (["--traffic", "steady:rate=1", *TIMING, "--replicas", "9..3"], "9 is above 3"),
        (["--traffic", "steady:rate=1", *TIMING, "--policy", "keda:treshold=3"], "did you mean 'threshold'"),
        (["--traffic", "steady:rate=1", *TIMING, "--lengths", LITTLE, "--slo", "ttft_p95=1ms"], "does not hold"),
        (["--traffic", "steady:rate=1", "--config", "configs/demo.yaml", "--model", "lfm2-demo"], "--calibration"),
        (["--traffic", "steady:rate=1", "--config", "none.yaml"], "none.yaml"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_configuration_is_simulated_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "service.yaml"
    config.write_text(
        """
applications:
- name: a
  import_path: serve_app.app:build
  args:
    ingress: {replicas: 2}
    models:
    - id: quick
      engine: simulated
      max_running: 16
      autoscaling: {min_replicas: 2, max_replicas: 5, target_load: 0.4, initial_replicas: 3}
      simulated: {step_base_ms: 10, startup_s: 4}
"""
    )
    asked = options.read(options.parser().parse_args(["--config", str(config), *SPIKE]))
    assert asked.bounds == (2, 5)
    assert asked.scenario.hardware.startup_s == 4 and asked.scenario.ingress.replicas == 2
    subject = study.Study.of(asked, measure(asked.scenario, asked.slo))
    assert not subject.tuned
    assert (subject.settings.target_load, subject.settings.initial_replicas) == (0.4, 3)
    assert ServiceConfig.parse({"models": [subject.scenario.model.model_dump(exclude_unset=True)]})
