"""What becomes which of vLLM's arguments: the table from this configuration to vLLM, and the check of `engine_args`.

vLLM is told, each over the one before: `DEFAULTS`, what the hardware adds (`serve_app.engine.platform`), the model's
own `engine_args`, and `ARGUMENTS` with `SERVER`, which nothing can change. Who writes one of `ARGUMENTS` under
`engine_args` is told which key of the configuration to use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator

from serve_app.config import known_keys
from serve_app.config.declared import Problems, listed, shown
from serve_app.config.errors import nearest, unknown_key
from serve_app.config.sections import Sampling, Section

PACKAGE = "package:"
"""Before a path of weights that lies in this package."""


def locate(weights: str) -> str:
    """`package:PATH` as a path on this node; anything else as it is."""
    if not weights.startswith(PACKAGE):
        return weights
    return str(Path(__file__).parents[1] / weights.removeprefix(PACKAGE))


def _unchanged(value: Any) -> Any:
    return value


def _those_set(sampling: Sampling) -> dict[str, float]:
    return sampling.model_dump(exclude_none=True)


class Argument(NamedTuple):
    """An argument of vLLM that the service sets."""

    name: str
    """In vLLM's AsyncEngineArgs, or among the arguments of its server."""
    instead: str | None
    """What to write in place of it under `engine_args`; None where vLLM's engine has no argument of this name, or has
    one that may be set."""
    key: str | None = None
    """The attribute of the model whose value it is made of, or of the service's images after `images.`; None where the
    hardware says it, or nothing."""
    convert: Callable[[Any], Any] = _unchanged
    """Makes it of that attribute's value. Where the value is None, vLLM is not told."""
    kind: str | None = None
    """The kind of model that alone has it."""


ARGUMENTS = (
    Argument("model", "id, or source where the weights are elsewhere", "weights", locate),
    Argument("served_model_name", "id and aliases", "names", list),
    Argument("max_num_seqs", "max_running", "max_running"),
    Argument("override_generation_config", "sampling", "sampling", _those_set),
    Argument("tool_call_parser", "tool_parser", "tool_parser"),
    Argument("enable_auto_tool_choice", "tool_parser", "tool_parser", bool),
    Argument("exclude_tools_when_tool_choice_none", None, "tool_parser", bool),
    Argument("reasoning_parser", "reasoning_parser of the model, beside engine_args", "reasoning_parser"),
    Argument("structured_outputs_config", None, "reasoning_parser", lambda parser: {"reasoning_parser": parser}),
    Argument("limit_mm_per_prompt", "images_per_prompt", "images_per_prompt", lambda most: {"image": most}, "vision"),
    Argument(
        "allowed_media_domains", "images.allowed_domains of the service", "images.allowed_domains", list, "vision"
    ),
    Argument("enable_lora", "adapters", "adapters", bool),
    Argument("max_loras", "adapters.max_loaded", "adapters", attrgetter("max_loaded")),
    Argument("max_cpu_loras", "adapters.max_loaded"),
    Argument("max_lora_rank", "adapters.max_rank", "adapters", attrgetter("max_rank")),
    Argument("tensor_parallel_size", "gpus"),
    Argument("pipeline_parallel_size", "gpus (tensor parallelism) or replicas"),
    Argument("data_parallel_size", "replicas"),
)
"""Every argument that a key of the configuration decides."""

SERVER = {"enable_log_requests": False, "disable_uvicorn_access_log": True}
"""What vLLM's server is told of its logs: a line a request would cost more than it tells."""

DEFAULTS = {
    # Batch work gives its requests a lower priority; with "fcfs" vLLM would leave it unheeded.
    "scheduling_policy": "priority",
    "disable_log_stats": False,
}
"""What `engine_args` may change."""

INSTEAD = {one.name: one.instead for one in ARGUMENTS if one.instead}
"""Engine arguments that the service sets itself, and what of the configuration says it."""

WHOLE_NUMBERS = ("kv_cache_memory_bytes", "max_model_len")
"""Those the plan counts with, whether vLLM is installed or not."""


def arguments(model: Section, images: Section, hardware: Mapping[str, Any]) -> dict[str, Any]:
    """All that vLLM is told of a model (a ModelConfig) and the service's images (an ImageConfig).

    `hardware` is what the machine adds, from `serve_app.engine.platform`.
    """
    users: dict[str, Any] = attrgetter("engine_args")(model)
    below = DEFAULTS | {"structured_outputs_config": structured_outputs(users)} | dict(hardware)
    return merge(merge(below, users), SERVER | of_configuration(model, images))


def of_configuration(model: Section, images: Section) -> dict[str, Any]:
    """The arguments that the keys of a model (a ModelConfig) and of the service's images (an ImageConfig) decide."""
    found: dict[str, Any] = {}
    for one in ARGUMENTS:
        if one.key is None or one.kind not in (None, attrgetter("kind")(model)):
            continue
        section, key = (images, one.key.removeprefix("images.")) if one.key.startswith("images.") else (model, one.key)
        value = attrgetter(key)(section)
        if value is not None:
            found[one.name] = one.convert(value)
    return found


def structured_outputs(engine_args: Mapping[str, Any]) -> dict[str, Any]:
    """What vLLM is told of structured outputs, beside what the model's own `engine_args` say of them.

    With `auto` the first request's grammar would choose the back end for all that follow. Where white space is
    allowed between the parts of a JSON document, small models write it until they are cut off.
    """
    users = engine_args.get("structured_outputs_config")
    backend = users.get("backend", "xgrammar") if isinstance(users, dict) else "xgrammar"
    return {"backend": backend, "disable_any_whitespace": backend in ("xgrammar", "guidance")}


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` over `below`: mappings key by key, lists joined, the rest replaced."""
    merged = below | above
    for name in below.keys() & above.keys():
        if isinstance(below[name], dict) and isinstance(above[name], dict):
            merged[name] = merge(below[name], above[name])
        elif isinstance(below[name], list) and isinstance(above[name], list):
            merged[name] = below[name] + above[name]
    return merged


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
