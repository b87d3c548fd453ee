"""How many engines of a model share a GPU, and what of its memory each has for its KV cache."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from serve_app.config import catalog
from serve_app.config.schema import ModelConfig
from serve_app.config.sections import Memory
from serve_app.planning import adapters

GIB = 2**30
USABLE_SHARE = 0.92
"""Share of a GPU's memory that engines may take together, vLLM 0.32's own default; the rest is the driver's."""
SEQUENCE_TOKENS = 2048
"""Length of the sequences that are counted: a prompt and an answer of ordinary chat."""
ASSUMED_GPU_GIB = 80.0
"""Memory of a GPU nobody told about."""
AUTO_COUNTS = (8, 4, 2)
"""What `replicas_per_gpu: auto` may come to, besides 1."""
LEAST_SEQUENCES = 64
"""Sequences that `auto` leaves each engine room for: fewer would not keep it busy."""
RAY_UNITS_PER_GPU = 10_000
"""Ray counts fractions of a GPU in these."""


@dataclass(frozen=True)
class Packing:
    """What `replicas_per_gpu: auto` came to, and why not more."""

    replicas_per_gpu: int
    reason: str


def choose(model: ModelConfig, gpu_memory_gib: float | None) -> Packing:
    """The most engines that pay and fit on one GPU of this size; of 80 GiB when it is None."""
    if model.engine == "simulated":
        return Packing(1, "the simulated engine takes no GPU")
    if model.packing is None:
        return Packing(1, "`packing`, the most that pay on one GPU, is not known for this model")
    if model.memory is None:
        return Packing(1, "without `memory` nobody knows how many fit")
    gib = gpu_memory_gib or ASSUMED_GPU_GIB
    gpu = f"a GPU of {gib:g} GiB" + ("" if gpu_memory_gib else " (assumed: gpu_memory_gib would tell)")
    basis = catalog.packing_basis(model.id, model.packing) or catalog.packing_basis(model.weights, model.packing)
    reason = f"more than {model.packing} on {gpu} are not known to pay" + (f" ({basis})" if basis else "")
    for count in AUTO_COUNTS:
        if count > model.packing:
            continue
        short = _short(model, model.memory, count, int(gib * GIB))
        if short is None:
            return Packing(count, reason)
        reason = f"{count} on {gpu} would leave each {short}"
    return Packing(1, reason)


def share(replicas_per_gpu: int) -> float:
    """GPUs one of them asks Ray for; rounded down, or six sixths would not fit on a GPU."""
    return math.floor(RAY_UNITS_PER_GPU / replicas_per_gpu) / RAY_UNITS_PER_GPU


def left_for_kv(memory: Memory, budget_bytes: int, gpus: int = 1, adapters_bytes: int = 0) -> int:
    """The budget over these GPUs less weights, and on each of them the reserve and the adapters, bytes; negative when
    they do not fit."""
    return budget_bytes - int((memory.weights_gib + gpus * memory.reserve_gib) * GIB) - gpus * adapters_bytes


def sequence_bytes(memory: Memory, tokens: int, state_factor: int = 1) -> int:
    """KV cache and convolution state of one sequence."""
    return tokens * memory.kv_bytes_per_token + state_factor * memory.state_bytes_per_sequence


def context_length(engine_args: dict[str, Any]) -> int | None:
    """Tokens of one context, where vLLM's arguments say."""
    length = engine_args.get("max_model_len")
    return length if isinstance(length, int) and length > 0 else None


def _short(model: ModelConfig, memory: Memory, count: int, gpu_total_bytes: int) -> str | None:
    """What is too little when so many share the GPU; None when they fit."""
    adapters_bytes = adapters.bytes_at_once(model) or 0
    kv = left_for_kv(memory, int(share(count) * USABLE_SHARE * gpu_total_bytes), adapters_bytes=adapters_bytes)
    if kv <= 0:
        return f"no KV cache beside weights{', reserve and adapters' if adapters_bytes else ' and reserve'}"
    if (given := model.engine_args.get("kv_cache_memory_bytes")) is not None:
        return "less than its engine_args.kv_cache_memory_bytes" if kv < int(given) else None
    context = context_length(model.engine_args)
    if context and kv < sequence_bytes(memory, context):
        return f"KV cache for less than one full context of {context:,} tokens"
    sequences = kv // sequence_bytes(memory, SEQUENCE_TOKENS)
    if sequences < LEAST_SEQUENCES:
        return f"KV cache for only {sequences} sequences of {SEQUENCE_TOKENS:,} tokens"
    return None
