"""What a configuration leaves open, decided once: GPUs of a replica and the number of replicas of each model.

`app.build`, `check`, the launcher and the load tests all start from `resolve`; whatever runs behind them reads plain
numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serve_app.config.schema import ModelConfig, ServiceConfig
from serve_app.planning.packing import Packing, choose, share


@dataclass(frozen=True)
class Resolved:
    """A service in which nothing is left open."""

    config: ServiceConfig
    """Each of its models has `gpus`, and `replicas` unless it has `autoscaling`."""
    packings: Mapping[str, Packing]
    """What `replicas_per_gpu: auto` came to, by the ids of the models that say it."""


def resolve(config: ServiceConfig) -> Resolved:
    """The service on GPUs of its `gpu_memory_gib`, or of 80 GiB where it does not say.

    A service that is resolved already comes back as it is.
    """
    packings = {
        model.id: choose(model, config.gpu_memory_gib) for model in config.models if model.replicas_per_gpu == "auto"
    }
    models = tuple(_resolved(model, packings.get(model.id)) for model in config.models)
    return Resolved(config.model_copy(update={"models": models}), packings)


def gpu_share(model: ModelConfig) -> float:
    """GPUs one replica of a resolved model asks Ray for; ValueError for a model that `resolve` has not seen."""
    if model.gpus is None:
        raise ValueError(f"{model.id} is not resolved: its GPUs are still open")
    return model.gpus


def replica_bounds(model: ModelConfig) -> tuple[int, int]:
    """Fewest and most replicas of a model, sleeping ones included; ValueError where they are still open."""
    if (scaling := model.autoscaling) is not None:
        return scaling.min_replicas + scaling.standby, scaling.max_replicas
    if model.replicas is None and model.replicas_per_gpu == "auto":
        raise ValueError(f"{model.id} is not resolved: its number of replicas is still open")
    return model.replicas or 1, model.replicas or 1


def _resolved(model: ModelConfig, packing: Packing | None) -> ModelConfig:
    """With as many replicas as fill a GPU where `auto` chose how many share one and nothing else gives a number."""
    count = packing.replicas_per_gpu if packing else model.replicas_per_gpu
    if model.gpus is not None:
        gpus = model.gpus
    elif model.engine == "simulated":
        gpus = 0.0
    else:
        gpus = share(count) if isinstance(count, int) else 1.0
    fill = packing.replicas_per_gpu if packing else 1
    replicas = model.replicas if model.autoscaling else model.replicas or fill
    return model.model_copy(update={"gpus": gpus, "replicas": replicas})
