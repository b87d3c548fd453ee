"""Which replicas a changed configuration replaces: those of the deployments whose version is another."""

from __future__ import annotations

from typing import Any

from ray.serve._private.build_app import build_app

from serve_app.app import build
from serve_app.config.schema import ServiceConfig

ONE: dict[str, Any] = {"id": "one", "engine": "simulated", "replicas": 2}
TWO: dict[str, Any] = {"id": "two", "engine": "simulated"}
OFTEN: dict[str, Any] = {"autoscaling": {"max_replicas": 4}, "replicas": None}


def versions(*models: dict[str, Any], **args: Any) -> dict[str, str]:
    """By deployment; as Serve would have it, whatever version it gives to the whole application."""
    config = ServiceConfig.model_validate({"models": list(models), **args})
    found = {}
    for deployment in build_app(build(config), name="app").deployments:
        deployment._deployment_config.version = "of the whole application"
        found[deployment.name] = str(deployment._deployment_config.version)
    return found


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before.keys() & after.keys() if before[name] != after[name]}


def test_what_is_the_same_has_the_same_version() -> None:
    assert versions(ONE, TWO) == versions(ONE, TWO)
    assert len({version for name, version in versions(ONE, TWO).items() if name != "console"}) == 3


def test_a_model_that_comes_or_goes_replaces_who_routes_and_who_shows_it() -> None:
    assert changed(versions(ONE), versions(ONE, TWO)) == {"ingress", "console"}
    assert changed(versions(ONE, TWO), versions(TWO)) == {"ingress", "console"}


def test_what_an_engine_is_built_from_replaces_its_replicas_alone() -> None:
    for change in ({"simulated": {"step_base_ms": 5}}, {"max_queued": 9}, {"drain_timeout_s": 5}):
        found = changed(versions(ONE, TWO), versions(ONE | change, TWO))
        assert "one" in found and "two" not in found, change
    assert changed(versions(ONE, TWO), versions(ONE | {"simulated": {"step_base_ms": 5}}, TWO)) == {"one"}
    assert changed(versions(ONE, TWO), versions(ONE, TWO, images={"max_mib": 3})) == {"one", "two"}


def test_how_many_replicas_and_who_gets_a_request_is_nothing_to_an_engine() -> None:
    for change in ({"replicas": 5}, {"routing_policy": "least_loaded"}, {"max_surge_percent": 50}, OFTEN):
        assert "one" not in changed(versions(ONE), versions(ONE | change)), change
    standby = {"replicas": None, "autoscaling": {"max_replicas": 4, "standby": 1}}
    assert "one" in changed(versions(ONE | OFTEN), versions(ONE | standby)), "sleep mode is set as an engine starts"


def test_the_ingress_and_the_batch_deployment_follow_their_own_settings() -> None:
    batch = {"directory": "/tmp/nowhere"}
    before = versions(ONE, batch=batch)
    assert changed(before, versions(ONE, batch=batch, ingress={"max_waiting": 7})) == {"ingress", "batch-api"}
    assert changed(before, versions(ONE | {"simulated": {"step_base_ms": 5}}, batch=batch)) == {"one"}


def test_a_console_that_is_off_is_no_deployment() -> None:
    assert versions(ONE).keys() - versions(ONE, ingress={"console": False}).keys() == {"console"}
