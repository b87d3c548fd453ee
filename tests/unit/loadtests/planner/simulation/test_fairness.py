"""The command that shows what a client notices of another one's flood."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests import fairness


@pytest.mark.parametrize("ingresses", [1, 2])
def test_with_a_key_each_a_flood_is_hardly_noticed_and_gets_the_rest(tmp_path: Path, ingresses: int) -> None:
    told = tmp_path / "fairness.json"
    load = ["--trickle", "steady:rate=2,duration=90", "--flood", "steady:rate=40,duration=90"]
    assert fairness.main([*load, "--ingresses", str(ingresses), "--json", str(told)]) == 0
    alone, shared, apart = json.loads(told.read_text()).values()
    assert apart["ttft_ms"]["95"] < 1.3 * alone["ttft_ms"]["95"] and apart["trickle_refused"] == 0
    assert shared["ttft_ms"]["95"] > 10 * alone["ttft_ms"]["95"] and shared["trickle_refused"]
    assert apart["flood_tokens_per_s"] > 0.85 * shared["flood_tokens_per_s"]
    assert alone["flood_tokens_per_s"] == 0 < apart["flood_refused"]


def test_what_is_wrong_in_the_arguments_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert fairness.main(["--flood", "steady:speed=2"]) == 2
    assert "unknown key 'speed'" in capsys.readouterr().err
