"""A contender that answers no request of a load has failed under that load; the others go on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loadtests import compare
from loadtests.bench.loads import chat
from loadtests.bench.peers.peer import DidNotServe
from loadtests.bench.vllm_bench import _read
from loadtests.results.comparison import Comparison, Measurement

NOTHING = {"completed": 0, "output_throughput": 0.0}
FIGURES = Measurement(100.0, 1.0, 10.0, 20.0, 5.0, 6.0, 1.0, 0, 0.1)


def running(serves: bool) -> Any:
    return SimpleNamespace(peer=SimpleNamespace(name="one"), serves=lambda: serves)


def answers_nothing(*_: Any) -> Measurement:
    return _read(NOTHING, 0.0, 16)


def test_one_that_still_serves_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    results = Comparison("path", {"gpu": None, "date": "2026-01-01"})
    monkeypatch.setattr(compare, "_measured", answers_nothing)
    compare._under(chat(1), running(True), compare.SUITES["path"](""), 0, results)
    monkeypatch.setattr(compare, "_measured", lambda *_: FIGURES)
    compare._under(chat(4), running(True), compare.SUITES["path"](""), 0, results)
    assert results.failed_loads == {chat(1).name: {"one": "0 of 16 requests were answered, with no token"}}
    assert [one["load"] for one in results.samples] == [chat(4).name]


def test_one_that_died_of_a_load_is_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compare, "_measured", answers_nothing)
    with pytest.raises(DidNotServe, match="one serves no longer after"):
        compare._under(
            chat(1), running(False), compare.SUITES["path"](""), 0, Comparison("path", {"gpu": None, "date": ""})
        )
