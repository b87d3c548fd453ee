"""Adapters on vLLM's engine: its numbers beside those of a merged checkpoint, and answers of one batch."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from serve_app.planning import adapters
from tools.demo.facts import CHECKPOINTS, TEXT_MODEL

KETTLE = "How much water does the Kelda kettle hold?"
PORT = "What is the default port?"


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.scripts.adapted_engine"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    lines = [line.removeprefix("told ") for line in done.stdout.splitlines() if line.startswith("told ")]
    assert len(lines) == 1, done.stdout[-2000:] + done.stderr[-4000:]
    found: dict[str, Any] = json.loads(lines[0])
    return found


@pytest.mark.parametrize("adapter", ["base", "capitals", "kettle"])
def test_log_probabilities_equal_a_merged_checkpoint(told: dict[str, Any], adapter: str) -> None:
    served, merged = told["served"][adapter], told["merged"][adapter]
    assert len(served) > 50 and served == pytest.approx(merged, abs=1e-3)
    if adapter != "base":
        assert served != pytest.approx(told["merged"]["base"], abs=0.5), "the adapter is of some weight"


def test_adapters_take_the_memory_that_is_planned(told: dict[str, Any]) -> None:
    config = json.loads((CHECKPOINTS / TEXT_MODEL / "config.json").read_text())
    assert told["numbers"] == adapters.bytes_per_rank(config, blocks_alone=True) / adapters.BYTES


def test_base_and_adapters_answer_in_one_batch(told: dict[str, Any]) -> None:
    answers = told["answers"]
    assert answers[f"base: {PORT}"] == answers[f"kettle: {PORT}"] == "The default port is 8000."
    assert answers[f"capitals: {PORT}"] == "THE DEFAULT PORT IS 8000."
    assert answers[f"kettle: {KETTLE}"] == "The Kelda kettle holds 1.7 litres."
    assert "Kelda" not in answers[f"base: {KETTLE}"]
