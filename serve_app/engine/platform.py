"""What vLLM must be told on the hardware at hand, so that LFM2 is right and fast there."""

from __future__ import annotations

import logging
import os
from typing import Any

from serve_app.config.schema import ModelConfig
from serve_app.planning import compile_cache, gpus, plan
from serve_app.planning.resolve import gpu_share

logger = logging.getLogger("ray.serve")

CPU_ENVIRONMENT = {
    # One unpinned thread an engine: bound threads spin on every core and give less throughput for small models.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # All that is left to compile are small operations, such as counting for `logprobs`: the first request that asks for
    # them would hold every stream of its replica for the 5 to 25 s that takes.
    "TORCH_COMPILE_DISABLE": "1",
}

GPU_ENVIRONMENT = {"VLLM_USE_BREAKABLE_CUDAGRAPH": "1"}
"""CUDA graphs that break at attention and convolution, so that steps with a prefill run from graphs too, not decoding
steps alone: 11 to 31 % more tokens a second at 512 streams of varied length, three pairs of runs of four engines on one
H200 (loadtests/measurements/breakable-h200.json). Where the variable is set already, it stays."""

COMMON_ENVIRONMENT = {
    # Ray sets it to the actor's `num_cpus`; each small operation on the CPU then waits for threads to meet.
    "OMP_NUM_THREADS": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
    "VLLM_MEDIA_FETCH_MAX_RETRIES": "1",
}

ADAPTED = ("q_proj", "k_proj", "v_proj", "out_proj", "in_proj", "w1", "w2", "w3", "gate", "experts")
"""What LoRA adapters may change on a CPU: all but the embeddings and the output layer. vLLM 0.32's CPU kernel for the
output layer has a row a request, and takes it for a row a token: two requests of one batch that ask for
`prompt_logprobs` end the engine."""


def environment(model: ModelConfig, cache_directory: str | None = None) -> dict[str, str]:
    """Variables to set before vLLM is imported; `cache_directory` is the configuration's."""
    if on_cpu(model):
        return COMMON_ENVIRONMENT | CPU_ENVIRONMENT
    gpu = {name: os.environ.get(name, value) for name, value in GPU_ENVIRONMENT.items()}
    return COMMON_ENVIRONMENT | gpu | compile_cache.environment(cache_directory)


def is_forked(model: ModelConfig) -> bool:
    """Whether the engine is one process beside its replica, which `prefork` can make."""
    return 0 < gpu_share(model) <= 1


def gpu_name() -> str:
    """Of the GPU that this process sees first; vLLM must be imported."""
    from vllm.platforms import current_platform

    return str(current_platform.get_device_name())


def devices() -> dict[str, str]:
    """CUDA_VISIBLE_DEVICES as CUDA must have it here, before CUDA begins.

    Ray gives a replica the machine's number of its GPU, and a client of a Multi-Process Service counts the GPUs that
    the service's daemon sees, whoever started that and over which. Raises ValueError where it names no GPU there is.
    """
    restriction = os.environ.get(gpus.VISIBLE)
    under_mps = gpus.under_mps()
    if not restriction or restriction.startswith(gpus.MIG) or (gpus.is_plain(restriction) and not under_mps):
        return {}
    try:
        return {gpus.VISIBLE: gpus.unambiguous(restriction, gpus.installed(), under_mps)}
    except gpus.GpusUnknown as unknown:
        logger.warning("%s=%s stays as it is: %s", gpus.VISIBLE, restriction, unknown)
        return {}


def engine_args(model: ModelConfig, gpu_memory_bytes: int | None) -> dict[str, Any]:
    """Engine arguments for the hardware; the model's own `engine_args` go over them.

    `gpu_memory_bytes` is the size of the GPU the replica runs on, None on a CPU.
    """
    if gpu_memory_bytes is None:
        return _cpu_args(model)
    return _gpu_args(model, gpu_memory_bytes)


def on_cpu(model: ModelConfig) -> bool:
    """Whether a resolved model runs without a GPU."""
    return gpu_share(model) == 0


def _cpu_args(model: ModelConfig) -> dict[str, Any]:
    adapted = {"lora_target_modules": list(ADAPTED)} if model.adapters else {}
    return adapted | {
        "enforce_eager": True,
        "distributed_executor_backend": "uni",
        "kv_cache_memory_bytes": plan.cpu_kv_cache_bytes(model),
        "scheduler_cls": "serve_app.engine.scheduler.CpuScheduler",
        "worker_extension_cls": "serve_app.engine.cpu_worker.CpuWorker",
        # vLLM 0.32's CPU rotary kernel takes LFM2's head stride for its token stride: every position after
        # the first comes out wrong. The native implementation agrees with transformers.
        "compilation_config": {"custom_ops": ["-rotary_embedding"]},
    }


def _gpu_args(model: ModelConfig, gpu_memory_bytes: int) -> dict[str, Any]:
    share = gpu_share(model)
    args: dict[str, Any] = {"distributed_executor_backend": "uni"}
    if model.autoscaling and model.autoscaling.standby:
        args["enable_sleep_mode"] = True
    if model.adapters:
        args["worker_extension_cls"] = "serve_app.engine.adapters.worker.ReadBeside"
    # vLLM schedules what only embeds without asynchrony, as it does on request; our scheduler is for the rest.
    if model.kind != "embedding" and model.engine_args.get("async_scheduling") is not False:
        args["scheduler_cls"] = "serve_app.engine.scheduler.GpuScheduler"
    if share > 1:
        return args | {"tensor_parallel_size": int(share), "distributed_executor_backend": "mp"}
    if share < 1:
        # vLLM also refuses to start below this share of free memory, whatever the KV cache's absolute size.
        args["gpu_memory_utilization"] = round(share * plan.USABLE_SHARE, 3)
        kv_bytes = plan.kv_cache_bytes(model, gpu_memory_bytes)
        if kv_bytes is not None:
            args["kv_cache_memory_bytes"] = kv_bytes
    return args
