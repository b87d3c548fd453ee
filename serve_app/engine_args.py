"""Which of vLLM's engine arguments a configuration may set."""

from __future__ import annotations

from typing import Any

from serve_app import foreign
from serve_app.config_errors import nearest, unknown_key

INSTEAD = {
    "model": "id, or source where the weights are elsewhere",
    "served_model_name": "id and aliases",
    "max_num_seqs": "max_running",
    "tensor_parallel_size": "gpus",
    "pipeline_parallel_size": "gpus (tensor parallelism) or replicas",
    "data_parallel_size": "replicas",
    "tool_call_parser": "tool_parser",
    "enable_auto_tool_choice": "tool_parser",
    "reasoning_parser": "reasoning_parser of the model, beside engine_args",
    "override_generation_config": "sampling",
    "limit_mm_per_prompt": "images_per_prompt",
    "allowed_media_domains": "images.allowed_domains of the service",
}
"""Engine arguments the service sets itself, and what of the configuration says it."""


def problems(arguments: dict[str, Any]) -> dict[str, str]:
    """What is wrong with each argument that cannot be set; those vLLM does not know only where it is installed."""
    known = foreign.engine_arguments()
    wrong = {name: _set_here(name) for name in arguments if name in INSTEAD}
    for name in arguments.keys() - known - INSTEAD.keys() if known else ():
        near = nearest(name, known)
        wrong[name] = unknown_key(name, known) + (f" It {_set_here(near)}" if near in INSTEAD else "")
    return dict(sorted(wrong.items()))


def _set_here(name: str) -> str:
    return f"is set by the service: use {INSTEAD[name]}"
