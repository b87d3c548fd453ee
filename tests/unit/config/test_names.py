"""Names of models: what metrics, logs and Ray Serve can carry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from serve_app.config import names
from tests.support.configs import AT, accepted, application, of_model, told, written


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\0", " a", "a ", "x" * 1000])
def test_names_that_metrics_or_logs_cannot_carry(tmp_path: Path, name: str) -> None:
    assert of_model(tmp_path, id=name).keys() == {"id"}
    assert of_model(tmp_path, aliases=["fine", name]).keys() == {"aliases[1]"}


@pytest.mark.parametrize("name", ["modèle", "模型"])
def test_ids_that_ray_serve_cannot_carry(tmp_path: Path, name: str) -> None:
    assert "ASCII" in of_model(tmp_path, id=name)["id"]
    accepted(written(tmp_path, application({"id": "some/model", "aliases": [name]})))


@pytest.mark.parametrize("name", ["LiquidAI/LFM2-1.2B", "a b", "a:b@c+d", "a_b.c-d", "x" * 160])
def test_names_that_can_be_served(name: str) -> None:
    assert names.model_name(name) == name
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", names.deployment(name))


@pytest.mark.parametrize(
    ("ids", "taken"),
    [
        (["ingress"], "the service's ingress"),
        (["batch-api"], "the service's Batch API"),
        (["/v1/batches"], "the service's Batch API"),
        (["console"], "the service's console"),
        (["/console"], "the service's console"),
        (["a/b", "a--b"], "that of 'a/b'"),
        (["a b", "c", "a:b"], "that of 'a b'"),
    ],
)
def test_two_of_one_deployment(tmp_path: Path, ids: list[str], taken: str) -> None:
    found = told(tmp_path, application(*({"id": one} for one in ids)))
    assert found.keys() == {f"{AT}models"} and taken in found[f"{AT}models"]
