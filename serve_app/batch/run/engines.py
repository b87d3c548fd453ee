"""The engines of a configuration without a service around them: no HAProxy, no ingress, no port.

This process is their only client. It listens to Ray Serve as an ingress does, and its requests go straight from it to
the replicas.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Callable
from typing import Any

from serve_app.batch.run.pace import MOST, QUEUED_ALONE, START, Pace
from serve_app.config.schema import ServiceConfig
from serve_app.launching.environment import offline
from serve_app.launching.log import reason
from serve_app.launching.settings import chosen_cluster
from serve_app.planning.machine import without_weights
from serve_app.planning.resolve import replica_bounds, resolve

POLL_S = 0.2
WAIT_S = 600.0
"""For a replica that is being replaced; a batch has the time."""


class DidNotStart(Exception):
    """The engines could not be started; the text says why."""


class LocalEngines:
    """Started by `start`, ended by `stop`; `client` reaches them. Ray is imported when they start."""

    def __init__(self, config: ServiceConfig, say: Callable[[str], None] = lambda text: None) -> None:
        # Nobody asks where the time of one request went: what counts is all of them.
        self.config = resolve(config).config.model_copy(update={"tracing": None})
        self._say = say
        self._names: dict[str, str] = {}
        self._handles: dict[str, Any] = {}
        self._joined = False

    def start(self) -> None:
        """Returns once every model serves; raises DidNotStart. Blocks.

        On the Ray cluster this process has joined, else on the one RAY_ADDRESS names, else on one of its own.
        """
        offline()
        import ray
        from ray import serve

        from serve_app.engine.deployment import engine_application

        if not ray.is_initialized():
            address = chosen_cluster() or "local"
            wrong = [f"{one.id}: {text}" for one in self.config.models if (text := without_weights(one))]
            if wrong and address == "local":
                raise DidNotStart("; ".join(wrong))
            ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
            self._joined = True
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        run = uuid.uuid4().hex[:8]
        self._names = {model.id: f"offline-{run}-{number}" for number, model in enumerate(self.config.models)}
        self._say(f"starting {', '.join(self._names)}")
        try:
            serve.start(proxy_location="Disabled")
            handles = serve.run_many(
                [
                    serve.RunTarget(engine_application(model, self.config), self._names[model.id], route_prefix=None)
                    for model in self.config.models
                ],
                wait_for_applications_running=False,
            )
            self._handles = dict(zip(self._names, handles, strict=True))
            self._wait()
        except BaseException:
            self.stop()
            raise

    def client(self) -> Any:
        """A `PoolClient` for the running event loop, which alone may use it."""
        from serve_app.batch.run.pooled import PoolClient
        from serve_app.routing.queue import QueueLimits
        from serve_app.routing.router import Router

        limits = QueueLimits(max_waiting=1_000_000, wait_timeout_s=WAIT_S, start_timeout_s=WAIT_S)
        return PoolClient(Router.of_deployments(self.config.models, self._handles, limits))

    def pace(self, named: str | None = None, most: int = MOST) -> Pace:
        """One that fills a model's engines from the first moment; without a name the largest model's."""
        models = [model for model in self.config.models if named in model.names] or self.config.models
        full = max(replica_bounds(model)[0] * model.max_running for model in models)
        return Pace(max(START, int(full * (1 + QUEUED_ALONE))), most, queued=QUEUED_ALONE)

    def stop(self) -> None:
        """End the engines, and the Ray cluster if it was started for them. Blocks; does nothing the second time."""
        import ray
        from ray import serve

        from serve_app.routing import registry

        for model in self._names:
            registry.unregister(model)
        if self._names and ray.is_initialized():
            for name in self._names.values():
                with contextlib.suppress(Exception):
                    serve.delete(name)
            if self._joined:
                ray.shutdown()
        self._names = {}

    def _wait(self) -> None:
        from ray import serve

        told: dict[str, int] = {}
        while True:
            applications = serve.status().applications
            states = {model: applications[name] for model, name in self._names.items()}
            for model, state in states.items():
                if state.status in ("DEPLOY_FAILED", "UNHEALTHY"):
                    messages = [state.message, *(one.message for one in state.deployments.values())]
                    raise DidNotStart(f"{model} did not start: {reason(chr(10).join(messages).splitlines())}")
                ready = sum(one.replica_states.get("RUNNING", 0) for one in state.deployments.values())
                if ready != told.get(model, 0):
                    told[model] = ready
                    self._say(f"{model}: {ready} ready")
            if all(state.status == "RUNNING" for state in states.values()):
                return
            time.sleep(POLL_S)
