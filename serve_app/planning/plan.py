"""What a configuration asks of its machines: memory of each replica, GPUs and CPUs in all. Pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from serve_app.config.schema import ModelConfig, Simulated
from serve_app.planning import adapters, packing
from serve_app.planning.packing import GIB, SEQUENCE_TOKENS, USABLE_SHARE, Packing
from serve_app.planning.resolve import Resolved, gpu_share, replica_bounds

CPU_KV_LEAST = 128 * 2**20
"""Enough for the demo models, and quick to allocate."""
CPU_KV_MOST = 4 * GIB
"""vLLM's CPU back end's usual KV space; a larger one is better given as engine_args.kv_cache_memory_bytes."""
CPU_SEQUENCE_TOKENS = 1024
CPU_STATE_FACTOR = 8
"""vLLM's blocks are 128 tokens long on CPUs and 16 on GPUs, and a convolution state takes whole blocks."""
PACKING_SLACK = 1e-6
ASLEEP_GIB = 1.3
"""Of its GPU that a sleeping replica keeps, for CUDA's context and graphs: LFM2-1.2B's shape, vLLM 0.32, one H200."""


@dataclass(frozen=True)
class ModelPlan:
    """What one model's replicas need and hold; None where the memory facts are missing or do not apply."""

    id: str
    names: tuple[str, ...]
    kind: str
    engine: str
    replicas_min: int
    replicas_max: int
    gpu_share: float
    packing: Packing | None
    """What `replicas_per_gpu: auto` came to; None where a number is given."""
    cpus: float
    max_running: int
    sampling: dict[str, float]
    autoscaling: dict[str, Any] | None = None
    """Its settings; None where the number of replicas is fixed."""
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    max_model_len: int | None = None
    """Context length, tokens; None leaves it to the model's own configuration."""
    budget_gib: float | None = None
    """Memory one replica may use on its GPUs together."""
    weights_gib: float | None = None
    reserve_gib: float | None = None
    kv_gib: float | None = None
    tokens: int | None = None
    """Tokens one replica's KV cache holds."""
    sequences: int | None = None
    """Sequences of 2,048 tokens one replica holds."""
    full_sequences: int | None = None
    """Sequences of the full context length one replica holds."""
    adapters: int | None = None
    """LoRA adapters that one replica may have loaded at the same time; None for a model without."""
    adapters_gib: float | None = None
    """What they take of each of its GPUs."""
    adapters_fit: int | None = None
    """How many would leave one full context in the KV cache, or `max_running` sequences of 2,048 tokens where its
    length is not known."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ServicePlan:
    """All models, the ingress and the Batch API; `min` with every model at its fewest replicas, `max` at its most."""

    models: tuple[ModelPlan, ...]
    gpus_min: int
    gpus_max: int
    cpus_min: float
    cpus_max: float
    gpu_gib: float
    """Memory of one GPU the plan is made for."""
    warnings: tuple[str, ...] = ()


def plan(resolved: Resolved, gpu_total_bytes: int) -> ServicePlan:
    """What a service would run on GPUs of this size."""
    config = resolved.config
    models = tuple(model_plan(model, gpu_total_bytes, resolved.packings.get(model.id)) for model in config.models)
    other_cpus = config.ingress.replicas * config.ingress.cpus + (config.batch.cpus if config.batch else 0)
    return ServicePlan(
        models=models,
        gpus_min=gpus_needed([one.gpu_share for one in models for _ in range(one.replicas_min)]),
        gpus_max=gpus_needed([one.gpu_share for one in models for _ in range(one.replicas_max)]),
        cpus_min=round(other_cpus + sum(one.replicas_min * one.cpus for one in models), 3),
        cpus_max=round(other_cpus + sum(one.replicas_max * one.cpus for one in models), 3),
        gpu_gib=round(gpu_total_bytes / GIB, 1),
        warnings=tuple(f"{one.id} {warning}" for one in models for warning in one.warnings),
    )


def model_plan(model: ModelConfig, gpu_total_bytes: int, packing: Packing | None = None) -> ModelPlan:
    """The replicas of a resolved model on GPUs of this size; `packing` is what `replicas_per_gpu: auto` came to."""
    fewest, most = replica_bounds(model)
    known = ModelPlan(
        id=model.id,
        names=model.names,
        kind=model.kind,
        engine=model.engine,
        replicas_min=fewest,
        replicas_max=most,
        gpu_share=gpu_share(model),
        packing=packing,
        cpus=model.cpus,
        max_running=model.max_running,
        sampling=model.sampling.model_dump(exclude_none=True),
        autoscaling=model.autoscaling.model_dump() if model.autoscaling else None,
        tool_parser=model.tool_parser,
        reasoning_parser=model.reasoning_parser,
        max_model_len=context_length(model),
        budget_gib=round(_budget_bytes(model, gpu_total_bytes) / GIB, 2) if gpu_share(model) else None,
        adapters=model.adapters.max_loaded if model.adapters else None,
    )
    if model.engine == "simulated":
        return replace(known, warnings=("is simulated: it answers with made-up text",))
    kv = _planned_kv_bytes(model, gpu_total_bytes)
    if kv is None or model.memory is None:
        return replace(known, warnings=("has no memory facts: `memory` with its sizes would tell what fits",))
    full_context = _full_context_bytes(model)
    return replace(
        known,
        weights_gib=model.memory.weights_gib,
        reserve_gib=model.memory.reserve_gib,
        kv_gib=round(max(kv, 0) / GIB, 2),
        tokens=max(kv, 0) // model.memory.kv_bytes_per_token,
        sequences=max(kv, 0) // _sequence_bytes(model, SEQUENCE_TOKENS),
        full_sequences=max(kv, 0) // full_context if full_context else None,
        adapters_gib=_adapters_gib(model),
        adapters_fit=_adapters_fit(model, gpu_total_bytes),
        warnings=_warnings(model, kv, gpu_total_bytes),
    )


def context_length(model: ModelConfig) -> int | None:
    """Tokens of one context, where the configuration or the catalog says."""
    if model.engine == "simulated":
        return (model.simulated or Simulated()).max_model_len
    return packing.context_length(model.engine_args)


def kv_cache_bytes(model: ModelConfig, gpu_total_bytes: int) -> int | None:
    """KV cache of a replica that shares a GPU: its budget less weights, reserve and adapters.

    None where vLLM should measure for itself: a replica with whole GPUs, or a model without memory facts.
    Raises ValueError, naming what to change, when weights and reserve leave nothing.
    """
    if model.memory is None or gpu_share(model) >= 1:
        return None
    kv = _left_for_kv(model, gpu_total_bytes)
    if kv <= 0:
        raise ValueError(f"{model.id} {_does_not_fit(model, kv, gpu_total_bytes)}")
    return kv


def cpu_kv_cache_bytes(model: ModelConfig) -> int:
    """KV cache of a replica on the CPU: `max_running` sequences of 1,024 tokens, at most 4 GiB.

    At least 128 MiB and one full context, without which vLLM does not start.
    """
    if model.memory is None:
        return CPU_KV_LEAST
    wanted = model.max_running * _sequence_bytes(model, CPU_SEQUENCE_TOKENS)
    return max(CPU_KV_LEAST, min(CPU_KV_MOST, wanted), _full_context_bytes(model))


def gpus_needed(shares: list[float]) -> int:
    """GPUs that hold these shares, first fit with the largest first; shares above 1 take whole GPUs."""
    whole = sum(int(share) for share in shares if share >= 1)
    free: list[float] = []
    for share in sorted((share for share in shares if 0 < share < 1), reverse=True):
        fits = next((i for i, room in enumerate(free) if share <= room + PACKING_SLACK), None)
        if fits is None:
            free.append(1.0 - share)
        else:
            free[fits] -= share
    return whole + len(free)


def _planned_kv_bytes(model: ModelConfig, gpu_total_bytes: int) -> int | None:
    """What the engine will get; not positive when it does not fit, None when nothing can be said."""
    if model.memory is None or model.engine == "simulated":
        return None
    if (given := model.engine_args.get("kv_cache_memory_bytes")) is not None:
        return int(given) * max(1, int(gpu_share(model)))
    if gpu_share(model) == 0:
        return cpu_kv_cache_bytes(model)
    return _left_for_kv(model, gpu_total_bytes)


def _left_for_kv(model: ModelConfig, gpu_total_bytes: int) -> int:
    """Budget less weights and reserve, over all GPUs of the replica."""
    assert model.memory is not None
    gpus, adapters_bytes = max(1, int(gpu_share(model))), adapters.bytes_at_once(model) or 0
    return packing.left_for_kv(model.memory, _budget_bytes(model, gpu_total_bytes), gpus, adapters_bytes)


def _adapters_gib(model: ModelConfig) -> float | None:
    found = adapters.bytes_at_once(model) if model.adapters else None
    return None if found is None else round(found / GIB, 2)


def _adapters_fit(model: ModelConfig, gpu_total_bytes: int) -> int | None:
    """None on a CPU, whose memory nobody shares out."""
    one = adapters.bytes_of_one(model)
    if one is None or gpu_share(model) == 0 or model.memory is None:
        return None
    gpus = max(1, int(gpu_share(model)))
    left = packing.left_for_kv(model.memory, _budget_bytes(model, gpu_total_bytes), gpus)
    if (given := model.engine_args.get("kv_cache_memory_bytes")) is not None:
        kept = int(given) * gpus
    else:
        kept = _full_context_bytes(model) or model.max_running * _sequence_bytes(model, SEQUENCE_TOKENS)
    return max(0, left - kept) // (gpus * one)


def _budget_bytes(model: ModelConfig, gpu_total_bytes: int) -> int:
    """Usable memory of a replica's share, over all its GPUs."""
    share = gpu_share(model)
    usable = model.engine_args.get("gpu_memory_utilization", USABLE_SHARE) if share >= 1 else USABLE_SHARE
    return int(share * usable * gpu_total_bytes)


def _sequence_bytes(model: ModelConfig, tokens: int) -> int:
    assert model.memory is not None
    return packing.sequence_bytes(model.memory, tokens, CPU_STATE_FACTOR if gpu_share(model) == 0 else 1)


def _full_context_bytes(model: ModelConfig) -> int:
    """One sequence of the full context length; 0 when that is not known."""
    length = context_length(model)
    return _sequence_bytes(model, length) if length else 0


def _does_not_fit(model: ModelConfig, kv: int, gpu_total_bytes: int) -> str:
    assert model.memory is not None
    share = gpu_share(model)
    gpus = f"{share:g} of a GPU" if share <= 1 else f"{share:g} GPUs"
    parts = [f"weights ({model.memory.weights_gib:g} GiB)", f"reserve ({model.memory.reserve_gib:g} GiB)"]
    if found := _adapters_gib(model):
        parts.append(f"adapters ({found:g} GiB for max_loaded of max_rank)")
    short = f"{', '.join(parts[:-1])} and {parts[-1]}"
    return (
        f"does not fit: {gpus} of {gpu_total_bytes / GIB:.0f} GiB is {-kv / GIB:.1f} GiB short of {short};"
        f" {_more_room(model, gpu_total_bytes)}"
    )


def _more_room(model: ModelConfig, gpu_total_bytes: int) -> str:
    """What gives a replica room for one full context."""
    assert model.memory is not None
    if gpu_share(model) == 0:
        return "raise engine_args.kv_cache_memory_bytes"
    needed = (model.memory.weights_gib + model.memory.reserve_gib) * GIB + _full_context_bytes(model)
    needed += adapters.bytes_at_once(model) or 0
    share = needed / (USABLE_SHARE * gpu_total_bytes)
    if share > 1:
        return "give it more whole GPUs (gpus: 2, 4 or 8) or larger ones"
    if model.replicas_per_gpu == "auto":
        return f"set gpu_memory_gib to {gpu_total_bytes / GIB:.4g}, for which auto takes fewer"
    if model.replicas_per_gpu is not None:
        return f"lower replicas_per_gpu to {math.floor(1 / share)} or fewer"
    return f"raise gpus to {math.ceil(100 * share) / 100:g} or more"


def _warnings(model: ModelConfig, kv: int, gpu_total_bytes: int) -> tuple[str, ...]:
    if adapters.bytes_at_once(model) is None and gpu_share(model):
        unknown = "has adapters of unknown size: `memory.adapter_bytes_per_rank` would tell what fits beside them"
        return (unknown, *_kv_warnings(model, kv, gpu_total_bytes))
    return _kv_warnings(model, kv, gpu_total_bytes)


def _kv_warnings(model: ModelConfig, kv: int, gpu_total_bytes: int) -> tuple[str, ...]:
    if kv <= 0:
        return (_does_not_fit(model, kv, gpu_total_bytes),)
    if kv < _full_context_bytes(model):
        short = f"less than one full context of {context_length(model)} tokens"
        more = _more_room(model, gpu_total_bytes)
        return (f"cannot start: its KV cache holds {short}; {more}, or lower engine_args.max_model_len",)
    fit = kv // _sequence_bytes(model, SEQUENCE_TOKENS)
    if fit < model.max_running:
        room = f"{fit} sequences of {SEQUENCE_TOKENS} tokens"
        return (f"has max_running {model.max_running}, but its KV cache holds {room}: beyond that, requests wait",)
    return ()
