"""What this service relies on in Ray beyond its public interface. A test here that fails names what an upgrade moved.

Sources are read rather than imported where a text is all that is relied on.
"""

from __future__ import annotations

import inspect
import mmap
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import serve
from ray.experimental import internal_kv
from ray.serve import autoscaling_policy
from ray.serve._private import constants, replica
from ray.serve._private.direct_ingress_http_util import ASGIDIReceiveProxy
from ray.serve._private.haproxy import HAProxyApi
from ray.serve.config import AutoscalingContext, AutoscalingPolicy, RequestRouterConfig
from ray.serve.context import ReplicaContext
from ray.serve.request_router import RequestRouter, RunningReplica

from serve_app.compat import replica_actor, serve_log
from serve_app.launching.environment import environment
from serve_app.launching.haproxy_config import _SERVES_OWN_HEADERS
from serve_app.replica.http_replica import HttpReplica

ROOT = Path(ray.__file__).parent
RAY = "2.60.0"


def source(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_this_is_the_version_that_was_read() -> None:
    assert version("ray") == RAY, "go through serve_app/compat, then name the new version here and in pyproject.toml"


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (internal_kv._internal_kv_put, ["key", "value", "overwrite", "namespace"]),
        (internal_kv._internal_kv_get, ["key", "namespace"]),
        (internal_kv._internal_kv_list, ["prefix", "namespace"]),
        (internal_kv._internal_kv_del, ["key", "del_by_prefix", "namespace"]),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_kv_store(function: Callable[..., Any], wanted: list[str]) -> None:
    assert parameters(function) == wanted


def test_autoscaling_delays() -> None:
    assert parameters(autoscaling_policy._apply_scaling_factors)[:3] == [
        "desired_num_replicas",
        "current_num_replicas",
        "autoscaling_config",
    ]
    assert parameters(autoscaling_policy._apply_delay_logic) == [
        "desired_num_replicas",
        "curr_target_num_replicas",
        "config",
        "policy_state",
        "_now",
    ]


def test_body_queue() -> None:
    assert isinstance(ASGIDIReceiveProxy.queue, property), "compat/body_queue.py replaces this property"
    assert "_queue" in inspect.getsource(ASGIDIReceiveProxy.__init__)
    assert isinstance(constants.RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD, bool)


def test_request_headers() -> None:
    assert parameters(replica.Replica._direct_ingress_asgi) == ["self", "scope", "receive", "send"]


@pytest.mark.parametrize(
    "name", ["_start_and_wait_for_haproxy", "_graceful_reload", "stop", "_generate_config_file_internal"]
)
def test_haproxy_restart(name: str) -> None:
    assert callable(getattr(HAProxyApi, name)), "compat/haproxy_restart.py wraps it"


@pytest.mark.parametrize("name", ["_proc", "_old_procs"])
def test_haproxy_restart_knows_the_process(name: str) -> None:
    assert f"self.{name}" in inspect.getsource(HAProxyApi)


@pytest.mark.parametrize("text", [*serve_log.MILESTONES, serve_log.NODE_TOO_SLOW, *serve_log.GAVE_UP])
def test_serve_log(text: str) -> None:
    files = (
        "_private/worker.py",
        "_private/node.py",
        "serve/_private/api.py",
        "serve/scripts.py",
        "serve/_private/application_state.py",
        "serve/_private/deployment_state.py",
    )
    assert any(text in source(file) for file in files), "launching waits for this line of the log"


@pytest.mark.parametrize(
    "text",
    ["Exception in {self._replica_id}", "Exception when allocating {self._replica_id}", "have taken more than {"],
)
def test_serve_log_of_replicas(text: str) -> None:
    assert text in source("serve/_private/deployment_state.py")


def test_free_resources() -> None:
    from ray._private import state
    from ray.serve._private.common import DeploymentID, ReplicaID

    assert callable(state.available_resources_per_node)
    full = ReplicaID("abc1", DeploymentID("m", "app")).to_full_id_str()
    assert full.startswith(replica_actor.PREFIX) and full.split("#")[1] == "m"


def test_replica_actor() -> None:
    from ray.serve._private.common import DeploymentID, ReplicaID

    full = ReplicaID("abc1", DeploymentID("m", "app")).to_full_id_str()
    assert full == replica_actor.NAME.format(app="app", deployment="m", replica="abc1")
    assert callable(replica.ReplicaActor.check_health)
    assert replica_actor.NAMESPACE == constants.SERVE_NAMESPACE


def test_second_node() -> None:
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    wanted = {"gcs_address", "node_ip_address", "num_cpus", "num_gpus"}
    assert wanted <= set(parameters(RayParams.__init__))
    assert {"head", "shutdown_at_exit", "spawn_reaper", "connect_only"} <= set(parameters(Node.__init__))
    assert isinstance(Node.raylet_socket_name, property)


def test_serve_status() -> None:
    from ray.serve._private.client import ServeControllerClient
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ApplicationStatus, DeploymentStatus

    assert parameters(ServeControllerClient.deploy_apps)[:2] == ["self", "config"] and callable(_get_global_client)
    assert {"DEPLOYING", "DEPLOY_FAILED", "RUNNING"} <= {one.value for one in ApplicationStatus}
    assert {"HEALTHY", "DEPLOY_FAILED"} <= {one.value for one in DeploymentStatus}
    assert "to be scheduled" in source("serve/_private/deployment_state.py")


def test_a_replicas_id_is_written_as_the_log_is_read() -> None:
    from ray.serve._private.common import DeploymentID, ReplicaID

    text = f"Exception in {ReplicaID('abc1', DeploymentID('m', 'app'))}, the replica will be stopped."
    found = serve_log.REPLICA_FAILED.search(text)
    assert found is not None and found[1] == "m"


def test_environment(tmp_path: Path) -> None:
    """Serve's variables are in its source; those of Ray's core are settings compiled into it, or read by its node."""
    names = environment("1", tmp_path)
    serves = "".join(
        source(f"serve/_private/{file}")
        for file in ("constants.py", "constants_utils.py", "haproxy.py", "default_impl.py")
    )
    missing = [name for name in names if name.startswith("RAY_SERVE_") and name not in serves]
    with (ROOT / "_raylet.so").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as core:
        settings = [name for name in names if name.startswith("RAY_") and name[4:5].islower()]
        node = source("_private/node.py")
        missing += [name for name in settings if core.find(name[4:].encode()) < 0 and name not in node]
    assert settings and not missing


def test_headers_that_steer_serve_are_those_that_haproxy_drops() -> None:
    from ray.serve._private import constants as names

    steering = {
        names.SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
        names.SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
        names.SERVE_MULTIPLEXED_MODEL_ID,
    }
    assert {name.replace("_", "-") for name in steering} == {name.replace("_", "-") for name in _SERVES_OWN_HEADERS}


def test_hooks_of_a_replica() -> None:
    assert HttpReplica.record_routing_stats.__name__ == constants.REQUEST_ROUTING_STATS_METHOD
    assert HttpReplica.record_replica_metadata.__name__ == constants.RECORD_REPLICA_METADATA_METHOD
    text = source("serve/_private/replica.py")
    assert "record_autoscaling_stats" in text and "__serve_build_asgi_app__" in text


def test_request_router() -> None:
    assert parameters(RequestRouter.update_replicas) == ["self", "replicas"]
    assert parameters(RequestRouter.choose_replicas) == ["self", "candidate_replicas", "pending_request"]
    assert callable(RequestRouter.initialize_state)
    for name in ("replica_id", "replica_metadata", "routing_stats"):
        assert hasattr(RunningReplica, name), "routing/discovery.py reads it"
    assert {"request_router_class", "request_router_kwargs", "request_routing_stats_period_s"} <= set(
        RequestRouterConfig.model_fields
    )


def test_autoscaling_policy() -> None:
    wanted = {
        "app_name",
        "target_num_replicas",
        "current_num_replicas",
        "capacity_adjusted_min_replicas",
        "capacity_adjusted_max_replicas",
        "aggregated_metrics",
    }
    assert wanted <= set(parameters(AutoscalingContext.__init__)), "autoscaling/serve_policy.py reads them"
    assert {"policy_function", "policy_kwargs"} <= set(AutoscalingPolicy.model_fields)


def test_replica_context() -> None:
    for name in ("app_name", "replica_tag", "world_size"):
        assert hasattr(ReplicaContext, name) or name in ReplicaContext.__dataclass_fields__
    assert callable(serve.get_replica_context)
