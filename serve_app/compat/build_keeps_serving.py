"""An application stays what it is while its next version is being built, and when that cannot be built.

Ray Serve 2.60 forgets an application's deployments as soon as another configuration comes, and learns them again from
its build. In between HAProxy is told of no ingress replica, so that all requests come through Serve's Python proxy,
nothing is scaled, and `serve status` shows no deployment; where the build fails, all that stays so until another
configuration can be built, though every replica is there. Here what was last built counts until something else is.

Serve's controller is an actor in a worker process of Ray's: `serve_app.compat.preload` gets there.
"""

from __future__ import annotations

from typing import Any

from serve_app.compat.on_import import patch_on_import

TARGET = "ray.serve._private.application_state"


def patch(state: Any) -> None:
    """Make Serve's `ApplicationState` remember its ingress and its deployments while it has no others."""
    clear = state._clear_target_state_and_store_config
    targets = state.target_deployments

    def cleared(self: Any, config: Any) -> None:
        ingress, self._built = self._ingress_deployment_name, self.target_deployments
        clear(self, config)
        self._ingress_deployment_name = ingress

    def deployments(self: Any) -> list[str]:
        if self._target_state.deployment_infos is None:
            return list(getattr(self, "_built", ()))
        return list(targets.fget(self))

    state._clear_target_state_and_store_config = cleared
    state.target_deployments = property(deployments)


def install() -> None:
    """Patch Serve's module, now or when it is imported."""
    patch_on_import(TARGET, lambda module: patch(module.ApplicationState))
