"""Ray Serve's own part of a file: what it would refuse after the start, or pass over in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serve_app.config.file import load
from serve_app.planning import check
from tests.support.configs import DEMO, accepted, application, problems, told, written


def test_ray_serves_own_keys_are_checked(tmp_path: Path) -> None:
    path = written(tmp_path, application({"id": "a"}), http_options={"prot": 1}, aplications=[])
    found = problems(path)
    assert "`port`" in found["http_options.prot"]
    assert "`applications`" in found["aplications"]


@pytest.mark.parametrize(
    ("top", "where", "text"),
    [
        ({"http_options": {"port": 0}}, "http_options.port", "should be from 1 to 65535, not 0"),
        ({"http_options": {"port": 65536}}, "http_options.port", "should be from 1 to 65535"),
        ({"http_options": {"port": "-1"}}, "http_options.port", "should be from 1 to 65535"),
        ({"http_options": {"port": "http"}}, "http_options.port", "should be a whole number, not 'http'"),
        ({"http_options": {"port": 80.5}}, "http_options.port", "should be a whole number, not 80.5"),
        ({"http_options": {"host": "http://a"}}, "http_options.host", "should be an address"),
        ({"http_options": {"host": ""}}, "http_options.host", "should be an address"),
        ({"http_options": {"host": 1}}, "http_options.host", "should be text, not 1"),
        ({"http_options": {"request_timeout_s": -1}}, "http_options.request_timeout_s", "should be at least 0"),
        ({"http_options": {"root_path": "a"}}, "http_options.root_path", "should begin with /"),
        ({"http_options": {"port": 81}, "grpc_options": {"port": 81}}, "grpc_options.port", "http_options.port too"),
        ({"logging_config": {"log_levl": "INFO"}}, "logging_config.log_levl", "did you mean `log_level`?"),
    ],
)
def test_ray_serves_options(tmp_path: Path, top: dict[str, Any], where: str, text: str) -> None:
    found = told(tmp_path, application(), **top)
    assert found.keys() == {where} and text in found[where]


def test_numbers_that_ray_reads_from_text(tmp_path: Path) -> None:
    accepted(written(tmp_path, application(), http_options={"port": "8123", "host": "::1"}))


@pytest.mark.parametrize(
    ("second", "where"),
    [
        ({"name": "a", "import_path": "o:x", "route_prefix": "/b"}, "name"),
        ({"name": "b", "import_path": "o:x", "route_prefix": "/"}, "route_prefix"),
        ({"name": "b", "import_path": "o:x"}, "route_prefix"),
        ({"name": "b c", "import_path": "o:x", "route_prefix": "/b"}, "name"),
        ({"name": "b" * 61, "import_path": "o:x", "route_prefix": "/b"}, "name"),
        (application(name="b", route_prefix="/b"), "import_path"),
        ({"name": "b", "import_path": "o:x", "route_prefix": "/b", "runtime_env": "x"}, "runtime_env"),
    ],
)
def test_two_applications_that_cannot_be_beside_each_other(tmp_path: Path, second: dict[str, Any], where: str) -> None:
    assert told(tmp_path, application(), second).keys() == {f"applications[1].{where}"}


def test_our_routes_begin_at_the_top(tmp_path: Path) -> None:
    assert told(tmp_path, application(route_prefix="/llm")).keys() == {"applications[0].route_prefix"}


@pytest.mark.parametrize(
    ("override", "where", "text"),
    [
        ({"num_replicas": 0}, "num_replicas", "should be at least 1"),
        ({"num_replicas": -1}, "num_replicas", "should be a whole number"),
        ({"num_replicas": "auto"}, "num_replicas", "or use `autoscaling`"),
        ({"name": "scaled", "num_replicas": 2}, "num_replicas", "keep one"),
        ({"name": "batch-api", "num_replicas": 2}, "num_replicas", "should be 1"),
        ({"name": "lfm2-dem"}, "name", "did you mean `lfm2-demo`?"),
        ({"name": "some/model"}, "name", "did you mean `some--model`?"),
        ({"name": "ingress"}, "name", "overridden twice"),
        ({"autoscaling_config": {"max_replicas": 2}}, "autoscaling_config", "the model's `autoscaling`"),
        ({"ray_actor_options": {"num_gpus": 1}}, "ray_actor_options.num_gpus", "use `gpus`"),
        ({"user_config": {}}, "user_config", "take no user_config"),
        ({"max_ongoing_requests": "x"}, "max_ongoing_requests", "should be a whole number"),
        ({"num_replica": 1}, "num_replica", "did you mean `num_replicas`?"),
    ],
)
def test_overrides_that_would_not_do(tmp_path: Path, override: dict[str, Any], where: str, text: str) -> None:
    models = [DEMO, {"id": "some/model"}, {"id": "scaled", "autoscaling": {"max_replicas": 2}}]
    overrides = [{"name": "ingress"}, {"name": "lfm2-demo", **override}]
    changed = application(*models, deployments=overrides, args={"batch": {"directory": str(tmp_path)}})
    found = told(tmp_path, changed)
    assert found.keys() == {f"applications[0].deployments[1].{where}"} and text in next(iter(found.values()))


def test_the_plan_counts_overrides(tmp_path: Path) -> None:
    overrides = [{"name": "lfm2-demo", "num_replicas": 3}, {"name": "ingress", "num_replicas": 4}]
    file = load(written(tmp_path, application(deployments=overrides)))
    (plan,) = (one["plan"] for one in json.loads(check.as_json(file, None))["applications"])
    assert plan["models"][0]["replicas_min"] == plan["models"][0]["replicas_max"] == 3
    assert plan["cpus_min"] == 3 * 1.0 + 4 * 0.5
