"""Which of vLLM's engine arguments a configuration may set, and to what."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator

from serve_app.config import known_keys
from serve_app.config.declared import Problems, listed, shown
from serve_app.config.errors import nearest, unknown_key

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


WHOLE_NUMBERS = ("kv_cache_memory_bytes", "max_model_len")
"""Those the plan counts with, whether vLLM is installed or not."""


def problems(arguments: dict[str, Any]) -> Problems:
    """What is wrong with each argument, by its place; names and values are vLLM's word, where it is installed."""
    known, fields = known_keys.engine_arguments(), known_keys.engine_fields()
    wrong: Problems = {(name,): _set_here(name) for name in arguments if name in INSTEAD}
    for name in arguments.keys() - INSTEAD.keys():
        value = arguments[name]
        if name == "hf_token" and isinstance(value, str):
            wrong[(name,)] = "would stand in Ray's logs: set HF_TOKEN in the environment of each node"
        elif known and name not in known:
            near = nearest(name, known)
            wrong[(name,)] = unknown_key(name, known) + (f" It {_set_here(near)}" if near in INSTEAD else "")
        elif known:
            wrong |= {(name, *path): text for path, text in fields[name].problems(value).items()}
        elif name in WHOLE_NUMBERS and value is not None and type(value) is not int:
            wrong[(name,)] = f"should be a whole number, not {shown(value)}"
        elif name == "gpu_memory_utilization" and not isinstance(value, int | float):
            wrong[(name,)] = f"should be a number, not {shown(value)}"
    return dict(sorted(wrong.items(), key=lambda one: [str(part) for part in one[0]]))


def known_parser(key: str, name: str) -> str:
    """The name as it is; ValueError for one that vLLM, where it is installed, does not know."""
    known = known_keys.parsers(key)
    if known and name not in known:
        near = nearest(name, known)
        raise ValueError(
            f"vLLM has no {name!r}; " + (f"did you mean `{near}`?" if near else f"it has {listed(sorted(known))}")
        )
    return name


ToolParser = Annotated[str, AfterValidator(partial(known_parser, "tool_parser"))]
ReasoningParser = Annotated[str, AfterValidator(partial(known_parser, "reasoning_parser"))]


def _set_here(name: str) -> str:
    return f"is set by the service: use {INSTEAD[name]}"
