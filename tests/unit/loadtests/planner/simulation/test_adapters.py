"""Adapters in a simulated service: how often they are loaded, and what they do to scaling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from loadtests import simulate as command
from loadtests.planner.simulation import capacity, options
from loadtests.planner.simulation.world import SimulationRun, SimulationScenario
from loadtests.results.slo import Slo
from serve_app.config.adapters import AdaptersConfig
from tests.unit.loadtests.planner.simulation.scenarios import run, scenario

FOUR = "fixed:4"


def adapted(count: int, skew: float = 0.0, load: str = "steady:rate=8,duration=60", **model: Any) -> SimulationScenario:
    own = AdaptersConfig(max_loaded=4, directory="/")
    of = scenario(load, "fixed:prompt=16,output=8", adapters=own, ingress={"replicas": 2}, **model)
    return replace(of, adapters=options.popularity(count, skew))


def a_thousand(found: SimulationRun) -> float:
    assert found.records and {one.outcome for one in found.records} == {"ok"}
    return 1000 * found.adapter_loads / len(found.records)


@pytest.mark.parametrize("skew", [0.0, 1.0])
def test_affinity_keeps_adapters_where_they_are(skew: float) -> None:
    with_it = a_thousand(run(adapted(12, skew), FOUR))
    without = a_thousand(run(adapted(12, skew, routing_policy="least_loaded"), FOUR))
    assert with_it < without / 5


def test_an_adapter_that_fits_is_loaded_once_on_a_replica() -> None:
    found = run(adapted(4, routing_policy="least_loaded"), FOUR)
    assert found.adapter_loads <= 4 * 4
    assert {one.model for one in found.records} == set(options.popularity(4, 0))


def test_loads_are_counted_of_replicas_that_have_gone_and_hold_none_up() -> None:
    of = adapted(12, 1.0, "spike:base=2,peak=20,at=10,for=20,duration=120")
    found = run(of)
    occupied = [one.occupied for one in found.samples]
    assert max(occupied) > 1 == occupied[-1]
    assert found.adapter_loads > 12


def test_a_replica_is_measured_with_the_adapters_that_it_has_room_for() -> None:
    slo = Slo.parse("ttft_p95=500ms,tpot_p95=50ms")
    few, many, none = (capacity.measure(adapted(count), slo).knee.rate for count in (4, 40, 0))
    assert few == many == pytest.approx(none, rel=0.1)


def test_the_command_tells_loads_a_thousand_requests(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--traffic", "steady:rate=8,duration=60", "--lengths", "fixed:prompt=16,output=8", "--policy", FOUR]
    words += ["--timing", "step_base_ms=10", "--max-running", "8", "--replicas", "4", "--startup", "5s"]
    told = []
    for routing in ("prefix_affinity", "least_loaded"):
        assert command.main([*words, "--adapters", "12", "--max-loaded", "4", "--routing", routing]) == 0
        heads, _, row = capsys.readouterr().out.splitlines()[-4:-1]
        assert heads.endswith("adapter loads")
        told.append(float(row.split()[-1]))
    assert told[0] < told[1] / 5


@pytest.mark.parametrize(
    ("words", "said"), [(["--max-loaded", "4"], "--adapters"), (["--adapter-skew", "-1"], "0 to 10")]
)
def test_options_that_cannot_be_say_why(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--traffic", "steady:rate=8,duration=60", "--timing", "step_base_ms=10", *words]) == 2
    assert said in capsys.readouterr().err
