"""The comparison command, on the suite that needs no model."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests import compare
from loadtests.bench import loads

ONE_ROUND = ["--rounds", "1", "--loads", "chat-1", "--contenders", "alone,ours-1"]


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Five requests a measurement in place of sixteen; the handler of SIGTERM that the command sets ends with it."""
    monkeypatch.setattr(loads, "LEAST_REQUESTS", 4)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("brief")
def test_compares_the_whole_path_with_the_engine_alone(tmp_path: Path) -> None:
    written = tmp_path / "path.json"
    assert compare.main(["path", *ONE_ROUND, "--json", str(written)]) == 0
    samples = json.loads(written.read_text())["samples"]
    assert [one["contender"] for one in samples] == ["engine alone", "this project, 1 replica"]
    assert all(one["errors"] == 0 and one["tokens_per_s"] > 0 for one in samples)
    assert all(one["server_cpu_s_per_1k"] > 0 for one in samples)
