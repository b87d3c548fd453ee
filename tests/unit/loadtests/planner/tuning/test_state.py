"""What was measured survives, and a resumed run measures only the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.loadgen import traffic
from loadtests.planner import report
from loadtests.planner.tuning import derive, knee, prove
from loadtests.planner.tuning.knee import Search, find
from loadtests.planner.tuning.oracle import least
from loadtests.planner.tuning.search import recalling
from loadtests.planner.tuning.state import CannotResume, State
from loadtests.planner.tuning.step import Step
from loadtests.results import record
from loadtests.results.record import Record
from loadtests.results.replicas import ReplicaCounts
from tests.unit.loadtests.planner.tuning.replica import SLO, Replica

SHAPE = "spike:base=2,peak=12,at=20,for=20,duration=60"
ASKED = {
    "config": "x.yaml",
    "model": "m<1>",
    "slo": str(SLO),
    "traffic": SHAPE,
    "lengths": "fixed:prompt=64,output=20",
    "scenario": "chat",
    "within": 0.99,
}
ABOUT = {"date": "2026-01-01", "commit": "abc123", "cores": 2, "gpu": None, "python": "3.11", "versions": {"ray": "2"}}


class Killed(Exception):
    pass


def test_a_killed_search_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = Replica(4.0, seconds=100.0)
    find(whole.measure, SLO, Search(1.0))
    state = State(tmp_path / "x.json", ASKED, ABOUT)
    replica = Replica(4.0, seconds=100.0)

    def measure(rate: float, repeat: int) -> Step:
        if len(state.steps) == 3:
            raise Killed
        state.steps.append(replica.measure(rate, repeat))
        state.save()
        return state.steps[-1]

    with pytest.raises(Killed):
        find(measure, SLO, Search(1.0))
    again = State.resumed(tmp_path / "x.json", ASKED)
    assert again.steps == state.steps
    find(recalling(again.steps, None, replica.measure), SLO, Search(1.0))
    assert replica.rates == whole.rates


def test_another_question_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(CannotResume, match="nothing to resume"):
        State.resumed(tmp_path / "x.json", ASKED)
    State(tmp_path / "x.json", ASKED, ABOUT).save()
    with pytest.raises(CannotResume, match=r"traffic: 'spike.* then, 'steady' now"):
        State.resumed(tmp_path / "x.json", {**ASKED, "traffic": "steady"})
    State.resumed(tmp_path / "x.json", {**ASKED, "traffic": "steady"}, only=("model", "slo"))
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(CannotResume, match="is not a tuning's state"):
        State.resumed(tmp_path / "x.json", ASKED)


def test_what_a_replica_carries_depends_on_the_adapters_it_is_asked_for(tmp_path: Path) -> None:
    State(tmp_path / "x.json", {**ASKED, "ask": "m:3,adapter:1"}, ABOUT, [6.2]).save()
    State(tmp_path / "y.json", {**ASKED, "ask": "m:3,adapter:1"}, ABOUT).take_measurements(tmp_path / "x.json")
    with pytest.raises(CannotResume, match="ask: 'm:3,adapter:1' then, None now"):
        State(tmp_path / "y.json", ASKED, ABOUT).take_measurements(tmp_path / "x.json")


def tuned(path: Path) -> State:
    """A state with everything in it, as a run leaves it."""
    shape = traffic.parse(SHAPE)
    replica = Replica(4.0)
    state = State(path, ASKED, ABOUT, [6.2], {"replicas": 3, "startup_s": 9.4})
    for rate in (1.0, 2.0, 4.0, 5.0):
        state.steps.append(replica.measure(rate, 0))
    state.knees[""] = knee.estimate(state.steps, SLO)
    state.skipped["packing"] = "The best packing was not searched: there is no GPU here."
    limits = derive.Constraints(max_running=16, max_replicas=8)
    state.derived = derive.derive(state.knees[""], state.steps, 6.2, SLO, shape, limits)
    for name in ("tuned", "default"):
        found = [Record(t / 4, t / 4, 0.2, 1.2, 64, 20, "ok") for t in range(240)]
        record.write(path.with_name(f"{name}.jsonl"), found)
        seen = [ReplicaCounts(t / 2, 1 + (t > 45), 1 + (t > 57), 1 + (t > 45), 0.0) for t in range(120)]
        best = least([one.scheduled_s for one in found], 4.0, 6.2, 60.0)
        of = prove.outcome(
            found, seen, best, traffic=shape, slo=SLO, capacity=4.0, startup_s=6.2, reversal_window_s=6.2
        )
        state.replays[name] = {
            "title": name.title(),
            "records": f"{name}.jsonl",
            "samples": [one.to_dict() for one in seen],
            "oracle": {"step_s": best.step_s, "replicas": list(best.replicas)},
            "outcome": of.to_dict(),
            "checks": [vars(one) for one in prove.checks(of, 6.2, prove.Criteria())],
        }
    return state


def test_the_state_survives_its_file(tmp_path: Path) -> None:
    state = tuned(tmp_path / "x.tuned.json")
    state.save()
    again = State.read(state.path)
    assert again == state
    step = json.loads(state.path.read_text())["steps"][0]
    for key in ("rate", "achieved_rate", "concurrency", "ttft_ms", "tpot_ms", "prompt_tokens", "output_tokens"):
        assert key in step


def test_the_report_holds_its_figures_and_needs_nothing_else(tmp_path: Path) -> None:
    state = tuned(tmp_path / "x.tuned.json")
    page, image = report.write(state)
    text = page.read_text()
    assert image.read_bytes().startswith(b"\x89PNG")
    assert text.count("<svg") == 2
    assert "m&lt;1&gt;" in text and "m<1>" not in text
    assert f"{state.knees[''].rate:.3g} requests/s" in text
    assert state.derived is not None
    for one in state.derived.numbers:
        assert one.key in text
    for one in state.replays["tuned"]["checks"]:
        assert one["value"] in text
    for word in ("abc123", "2026-01-01", "no GPU here", "Poisson", "3 at once", "9.4 s"):
        assert word in text
    assert "{{" not in text
    assert "<script" not in text and "<link" not in text and 'src="' not in text
    assert len(text) < 300_000


def test_a_report_before_the_proof_says_so(tmp_path: Path) -> None:
    state = tuned(tmp_path / "x.tuned.json")
    state.replays.clear()
    [page] = report.write(state)
    assert "Not proven yet" in page.read_text()
    assert not report.passed(state)


def test_a_report_without_its_records_says_which_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tuned(tmp_path / "x.tuned.json")
    state.save()
    (tmp_path / "default.jsonl").unlink()
    assert report.main([str(state.path)]) == 1
    assert "default.jsonl" in capsys.readouterr().err
