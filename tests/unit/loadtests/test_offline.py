"""A contender of `offline` that fails is a row of the table; the others are measured."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtests import offline
from loadtests.offline import NotMeasured

FIGURES = {"tokens_per_s": 100.0, "seconds": 1.0, "prompt_tokens": 10, "output_tokens": 100}


def fails(prompts: Path) -> dict[str, Any]:
    raise NotMeasured("it ended with 1")


@pytest.mark.parametrize("order", [["good", "bad"], ["bad", "good"], ["bad"]])
def test_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], order: list[str]
) -> None:
    contenders = {"good": lambda prompts: FIGURES, "bad": fails}
    monkeypatch.setattr(offline, "_contenders", lambda *_: {name: contenders[name] for name in order})
    monkeypatch.setattr(offline.signal, "signal", lambda *_: None)
    written = tmp_path / "x.json"
    assert offline.main(["simulated", "--prompts", "1", "--rounds", "2", "--json", str(written)]) == 1
    said = capsys.readouterr().out
    assert "Failed: bad: it ended with 1" in said and any(
        line.split()[:2] == ["bad", "failed"] for line in said.splitlines()
    )
    found = json.loads(written.read_text())
    assert found["failed"] == {"bad": "it ended with 1"}
    assert list(found["results"]) == [name for name in order if name == "good"]


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise SystemExit(3)", "ended with 3"),
        ("print('nothing')", "told no figures"),
        ('print(\'{"output_tokens": 0, "seconds": 0.0}\')', "hold no token"),
    ],
)
def test_what_tells_no_figures_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, reason: str
) -> None:
    (tmp_path / "contender.py").write_text(program)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    with pytest.raises(NotMeasured, match=reason):
        offline._run(["contender"], {"PYTHONPATH": path})
