"""New replicas first where there is room for one more, old ones first where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serve_app.config.schema import ModelConfig, ServiceConfig
from serve_app.planning import plan, upgrade
from serve_app.planning.packing import GIB
from serve_app.planning.resolve import resolve
from tests.support.configs import DEMO, application, of_model, report, written


def order(entry: dict[str, Any], *others: dict[str, Any], **machine: int) -> upgrade.Upgrade:
    resolved = resolve(ServiceConfig.model_validate({"models": [entry, *others], "ingress": {"cpus": 1}}))
    planned = plan.plan(resolved, 80 * GIB)
    return upgrade.planned(resolved.config.models[0], planned, **machine)


def model(**entry: Any) -> ModelConfig:
    config = ServiceConfig.model_validate({"models": [{"id": "m"} | entry]})
    return resolve(config).config.models[0]


@pytest.mark.parametrize(
    ("entry", "machine", "percent"),
    [
        (DEMO, {}, 100),
        (DEMO, {"cores": 8}, 100),
        ({"id": "m", "gpus": 0, "cpus": 2, "replicas": 3}, {"cores": 8}, 0),
        ({"id": "m", "gpus": 0, "cpus": 2, "replicas": 3}, {"cores": 9}, 100),
        ({"id": "m", "gpus": 0, "cpus": 2, "replicas": 3}, {"cores": 2}, 100),
        ({"id": "m", "gpus": 1}, {"gpus": 1}, 0),
        ({"id": "m", "gpus": 1}, {"gpus": 2}, 100),
        ({"id": "m", "replicas_per_gpu": 4, "replicas": 4}, {"gpus": 1}, 0),
        ({"id": "m", "replicas_per_gpu": 4, "replicas": 3}, {"gpus": 1}, 100),
        ({"id": "m", "replicas_per_gpu": 4, "autoscaling": {"max_replicas": 4}}, {}, 0),
        ({"id": "m", "gpus": 1, "max_surge_percent": 50}, {"gpus": 1}, 50),
        (DEMO | {"max_surge_percent": 0}, {}, 0),
    ],
)
def test_check_says_which_order_it_will_be(entry: dict[str, Any], machine: dict[str, int], percent: int) -> None:
    found = order(entry, **machine)
    assert found.max_surge_percent == percent
    assert ("stops each old replica before" in str(found)) == (percent == 0)


def test_other_models_take_room_too() -> None:
    half = {"gpus": 0.5}
    assert order({"id": "a"} | half, gpus=1).max_surge_percent == 100
    assert order({"id": "a"} | half, {"id": "b"} | half, gpus=1).max_surge_percent == 0


def test_it_stands_in_the_report(tmp_path: Path) -> None:
    told = report(written(tmp_path, application(DEMO | {"max_surge_percent": 0})))
    assert "lfm2-demo: an upgrade stops each old replica before its successor starts: max_surge_percent is 0" in told


def test_a_percentage_has_bounds(tmp_path: Path) -> None:
    assert "max_surge_percent" in of_model(tmp_path, max_surge_percent=101)


@pytest.mark.parametrize(
    ("free", "percent"),
    [
        ([{"CPU": 2.0, "GPU": 0.5}], 100),
        ([{"CPU": 2.0, "GPU": 0.4}], 0),
        ([{"CPU": 0.5, "GPU": 1.0}], 0),
        ([{"CPU": 4.0}, {"CPU": 0.5, "GPU": 1.0}], 0),
        ([{"CPU": 4.0}, {"CPU": 1.0, "GPU": 0.5}], 100),
        ([], 0),
    ],
)
def test_a_deploy_counts_what_one_node_has_free(free: list[dict[str, float]], percent: int) -> None:
    assert upgrade.surge_percent(model(gpus=0.5, cpus=1), [], free) == percent


def test_models_that_come_take_their_place_first() -> None:
    room = [{"CPU": 8.0, "GPU": 1.0}]
    old = model(gpus=0.5)
    assert upgrade.surge_percent(old, [model(id="new", gpus=0.5)], room) == 100
    assert upgrade.surge_percent(old, [model(id="new", gpus=0.5, replicas=2)], room) == 0
    assert upgrade.surge_percent(old, [old], room) == 100, "of a model that starts itself nothing is replaced"
    assert upgrade.surge_percent(model(gpus=0.5, max_surge_percent=30), [], []) == 30
