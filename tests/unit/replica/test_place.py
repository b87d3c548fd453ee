"""Where a replica says it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.config.schema import ModelConfig
from serve_app.planning.gpus import VISIBLE
from serve_app.replica.place import look
from tests.support.nvidia_smi import H100S, hide, put


def model(**changes: object) -> ModelConfig:
    memory = {"weights_gib": 2.0, "kv_bytes_per_token": 12288}
    return ModelConfig.model_validate({"id": "m", "gpus": 0.25, "memory": memory, **changes})


def test_it_knows_its_gpu_among_the_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, monkeypatch)
    monkeypatch.setenv(VISIBLE, "1")
    found = look(model())
    assert found["mine"] == [H100S[1].uuid] and len(found["gpus"]) == len(H100S) and found["problem"] is None
    planned = found["planned"]
    assert planned["gpu_share"] == 0.25 and planned["weights_gib"] == 2.0
    assert planned["budget_gib"] == pytest.approx(H100S[1].total_gib * 0.25 * 0.92, abs=0.01)


def test_one_without_a_gpu_has_none_of_those_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, monkeypatch)
    monkeypatch.delenv(VISIBLE, raising=False)
    found = look(model(gpus=0, memory=None))
    assert found["mine"] == [] and len(found["gpus"]) == len(H100S)
    hide(tmp_path, monkeypatch)
    assert look(model(gpus=0, memory=None))["gpus"] == []


def test_what_is_not_known_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, monkeypatch, "echo 'driver failed'; exit 9")
    found = look(model())
    assert "driver failed" in found["problem"] and found["gpus"] == found["mine"] == []
