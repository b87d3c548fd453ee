"""An application keeps its ingress and its deployments while another version of it is built."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve._private.application_state import ApplicationState
from ray.serve._private.common import DeploymentID
from ray.serve.schema import ServeApplicationSchema

from serve_app.compat import build_keeps_serving


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An application that runs two deployments, as Serve's controller holds it."""
    for name in ("_clear_target_state_and_store_config", "target_deployments"):
        monkeypatch.setattr(ApplicationState, name, getattr(ApplicationState, name))
    build_keeps_serving.patch(ApplicationState)
    manager = SimpleNamespace(get_deployment_statuses=lambda ids: ids, delete_deployment=lambda id: True)
    state = ApplicationState("app", manager, SimpleNamespace(), SimpleNamespace(), SimpleNamespace(), False)
    infos = {
        name: SimpleNamespace(ingress=name == "ingress", ingress_request_router=False) for name in ("m", "ingress")
    }
    state._target_state.deployment_infos = infos
    state._ingress_deployment_name = "ingress"
    return state


def test_what_runs_stays_known_until_something_else_is_built(state: Any) -> None:
    for _ in range(2):
        state._clear_target_state_and_store_config(ServeApplicationSchema(import_path="a:b"))
        assert state._target_state.deployment_infos is None, "a build is under way"
        assert state.ingress_deployment == "ingress", "HAProxy asks for it"
        assert state.target_deployments == ["m", "ingress"]
        assert DeploymentID("m", "app") in state.get_deployments_statuses()
    state._target_state.deployment_infos = {"n": None}
    assert state.target_deployments == ["n"]


def test_what_is_deleted_is_not_remembered(state: Any) -> None:
    state._clear_target_state_and_store_config(ServeApplicationSchema(import_path="a:b"))
    state._target_state.deployment_infos = {}
    assert state.target_deployments == []
