"""Ray Serve as it comes: the same engine as a plain Serve application, scaled by Serve's own policy.

Serve counts the requests that pass through its own proxy and aims at `target_ongoing_requests` of them a replica. That
target and the bound on a replica are told what this project is told of the model; everything else is Serve's default.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import serve
from starlette.types import ASGIApp

from loadtests.bench.peers import serve_file
from loadtests.bench.peers.configured import ConfiguredModel
from loadtests.bench.peers.peer import Peer
from serve_app.config.schema import Autoscaling, ImageConfig, ModelConfig, ServiceConfig
from serve_app.engine.deployment import start_engine
from serve_app.launching.environment import environment
from serve_app.planning.resolve import gpu_share, resolve

DEPLOYMENT = "Engine"
"""The Serve deployment's name, which is in the titles of its replicas' processes."""


class PlainReplica:
    """One replica: vLLM's HTTP app, or the simulated one's, behind Serve's proxy."""

    async def __init__(self, model: ModelConfig, images: ImageConfig) -> None:  # type: ignore[misc]
        self._engine = await start_engine(model, images)

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        return self._engine.app


def build(args: dict[str, Any]) -> serve.Application:
    """The Serve application of a configuration's first model; `args` are as in the file."""
    service = resolve(ServiceConfig.parse(args)).config
    model = service.models[0]
    bounds = model.autoscaling or Autoscaling(max_replicas=model.replicas or 1)
    deployment = serve.deployment(
        serve.ingress()(PlainReplica),
        name=DEPLOYMENT,
        ray_actor_options={"num_cpus": model.cpus, "num_gpus": gpu_share(model)},
        max_ongoing_requests=model.capacity,
        autoscaling_config={
            "min_replicas": bounds.min_replicas,
            "max_replicas": bounds.max_replicas,
            "initial_replicas": bounds.initial_replicas,
            "target_ongoing_requests": bounds.target_load * model.max_running,
        },
    )
    return deployment.bind(model, service.images)


def serve_default(name: str, source: ConfiguredModel, entry: Mapping[str, Any], port: int, folder: Path) -> Peer:
    """The model's entry under Serve's own autoscaling."""
    args = {**source.args, "models": [dict(entry)]}
    build_path = "loadtests.bench.peers.serve_default:build"
    config = serve_file.write(folder / "serve-default.yaml", args, port=port, name="peer", import_path=build_path)
    # HAProxy's sockets lie in `folder` itself: below another folder their paths would be longer than it takes.
    return Peer(
        name,
        [sys.executable, "-m", "ray.serve.scripts", "run", str(config)],
        f"http://127.0.0.1:{port}",
        environment("peer", folder) | {"RAY_ADDRESS": "local"},
    )
