"""What of a configuration each deployment uses, so that a change replaces those replicas alone that it is for."""

from __future__ import annotations

from typing import Any

from serve_app.config.schema import ImageConfig, IngressConfig, ModelConfig, ServiceConfig
from serve_app.config.sections import Autoscaling
from serve_app.config.telemetry import TracingConfig

SLEEPS = Autoscaling(min_replicas=0, max_replicas=1, standby=1)
"""For an engine, whose replicas count nobody but others: it may be told to sleep."""
OUTSIDE_ENGINES: dict[str, Any] = {
    name: ModelConfig.model_fields[name].default for name in ("replicas", "routing_policy", "max_surge_percent")
}
"""How many replicas there are, and who gets a request, is nothing to a replica."""
INSIDE_ENGINES: dict[str, Any] = {
    "source": None,
    "engine_args": {},
    "memory": None,
    "packing": None,
    "cpus": 0.0,
    "gpus": 0.0,
    "simulated": None,
    "drain_timeout_s": ModelConfig.model_fields["drain_timeout_s"].default,
    "max_surge_percent": None,
}
"""What runs a replica is nothing to who forwards requests to it."""


def for_engine(model: ModelConfig, tracing: TracingConfig | None = None) -> ModelConfig:
    """What a replica of a resolved model uses of its entry; `tracing` has an engine make spans."""
    sleeps = SLEEPS if model.autoscaling and model.autoscaling.standby else None
    adapters = model.adapters
    if adapters is not None:
        # The others come with their requests, so that a list that grows replaces no replica.
        own = tuple(one for one in adapters.list if one.id in adapters.preload)
        adapters = adapters.model_copy(update={"list": own})
    changes = OUTSIDE_ENGINES | {"autoscaling": sleeps, "adapters": adapters}
    if tracing is not None and model.engine == "vllm":
        changes["engine_args"] = {**model.engine_args, "otlp_traces_endpoint": tracing.endpoint}
    return model.model_copy(update=changes)


def for_router(config: ServiceConfig) -> ServiceConfig:
    """What who forwards requests to the models of a resolved service uses of it, in front of a client or of a batch."""
    models = tuple(model.model_copy(update=_inside_engines(model)) for model in config.models)
    changes = {"models": models, "images": ImageConfig(), "gpu_memory_gib": None, "cache_directory": None}
    return config.model_copy(update=changes)


def _inside_engines(model: ModelConfig) -> dict[str, Any]:
    """An adapter's files are judged where its requests are routed, by the weights and the hardware it is for."""
    judged = ("source", "gpus") if model.adapters else ()
    return {name: value for name, value in INSIDE_ENGINES.items() if name not in judged}


def for_console(config: ServiceConfig) -> ServiceConfig:
    """What the page for people uses of a resolved service: its models."""
    return for_router(config).model_copy(update={"ingress": IngressConfig(), "batch": None})
