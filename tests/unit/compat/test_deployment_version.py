"""Serve gives a whole application one version; a deployment that has its own keeps it, and all its other options."""

from __future__ import annotations

from unittest import mock

from ray import serve
from ray.serve._private.config import DeploymentConfig
from ray.serve._private.deploy_utils import get_deploy_args

from serve_app.autoscaling.serve_policy import autoscaling_config
from serve_app.compat.deployment_version import with_version
from serve_app.config.sections import Autoscaling
from serve_app.routing.discovery import listened_to


@serve.deployment(
    autoscaling_config=autoscaling_config("m", Autoscaling(max_replicas=3), 4),
    request_router_config=listened_to("m"),
    max_surge_percent=100,
    graceful_shutdown_timeout_s=77,
)
class SomeDeployment:
    """With every kind of option that ours have."""


def deployed(deployment: serve.Deployment) -> DeploymentConfig:
    """What Serve's controller is told, by the way that an application built from a file takes."""
    with mock.patch("ray.get_runtime_context"):
        args = get_deploy_args(
            "m", deployment._replica_config, deployment_config=deployment._deployment_config, version="x"
        )
    return DeploymentConfig.from_proto_bytes(args["deployment_config_proto_bytes"])


def test_the_version_follows_what_is_used_and_all_else_stays() -> None:
    plain, own = deployed(SomeDeployment), deployed(with_version(SomeDeployment, "a", "b"))
    assert plain.version == "x" and own.version != "x"
    assert own.version == deployed(with_version(SomeDeployment, "a", "b").options(name="n")).version
    assert own.version != deployed(with_version(SomeDeployment, "ab")).version
    assert own.model_dump(exclude={"version"}) == plain.model_dump(exclude={"version"})
