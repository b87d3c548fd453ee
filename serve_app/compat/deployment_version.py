"""A version of its own for each deployment of an application.

Ray Serve 2.60 gives all deployments of an application that is built from a file the version that it makes of the whole
of `args`, and to those of one that is built in Python a random one: a change for one model would replace the replicas
of all. Nothing public sets a deployment's version. `get_deploy_args` assigns to `DeploymentConfig.version`; here that
assignment has no effect. The class lives in the process that builds the application: what reaches Serve's controller
is a message.
"""

from __future__ import annotations

import copy
import hashlib
from importlib import metadata
from typing import Any

from pydantic import PrivateAttr
from ray.serve import Deployment
from ray.serve._private.config import DeploymentConfig


class VersionedConfig(DeploymentConfig):
    """Options of a deployment, of which the version stays what it is."""

    _own: str = PrivateAttr("")

    @classmethod
    def of(cls, config: DeploymentConfig, version: str) -> VersionedConfig:
        """The same options with this version."""
        options = {name: getattr(config, name) for name in DeploymentConfig.model_fields}
        versioned = cls.model_construct(_fields_set=config.model_fields_set, **options | {"version": version})
        versioned._own = version
        return versioned

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, self._own if name == "version" else value)


def with_version(deployment: Deployment, *uses: str) -> Deployment:
    """The deployment with a version that is another when one of `uses`, or this package, is another."""
    versioned = copy.copy(deployment)
    text = "\0".join((_release(), *uses))
    config = VersionedConfig.of(deployment._deployment_config, hashlib.sha256(text.encode()).hexdigest())
    versioned._deployment_config = config
    return versioned


def _release() -> str:
    try:
        return metadata.version("serve-app")
    except metadata.PackageNotFoundError:
        return ""
