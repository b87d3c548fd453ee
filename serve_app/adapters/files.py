"""Whether an engine can use an adapter, as far as its files tell: its configuration, and the header of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serve_app.adapters import base, safetensors
from serve_app.adapters.json_object import json_object
from serve_app.config import catalog
from serve_app.config.schema import ModelConfig
from serve_app.planning.resolve import gpu_share

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""As PEFT names them."""
MOST_CONFIG_BYTES = 2**20

UNSUPPORTED = (
    "use_dora",
    "lora_bias",
    "alora_invocation_tokens",
    "layer_replication",
    "use_bdlora",
    "use_qalora",
    "modules_to_save",
    "trainable_token_indices",
)
"""Of PEFT's settings those that change what an adapter is, and that vLLM 0.32 does not serve."""
PLAIN_STARTS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
"""Values of `init_lora_weights` after which an adapter is a plain one; others change the model's own weights."""
ON_THE_OUTSIDE = ("embed_tokens", "lm_head")
OF_THE_MODEL = tuple(f".{name}.base_layer.weight" for name in ON_THE_OUTSIDE)
"""PEFT may write the model's own beside an adapter of them; vLLM leaves them aside."""
_PREFIX = "base_model.model."


def problem(folder: Path, model: ModelConfig) -> str | None:
    """Why no engine of the model can use the adapter in this folder, in one sentence; None where nothing is wrong."""
    try:
        config = _config(folder / CONFIG)
        if wrong := next(_of_config(config, model), None):
            return wrong
        if not (folder / WEIGHTS).is_file():
            return f"it has no {WEIGHTS}"
        return next(_of_tensors(safetensors.shapes(folder / WEIGHTS), config, model), None)
    except OSError as error:
        return f"{Path(str(error.filename)).name} cannot be read ({error.strerror})"
    except ValueError as error:
        return str(error)


def _config(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(f"it has no {CONFIG}")
    found = json_object(file.read_bytes()[:MOST_CONFIG_BYTES])
    if found is None:
        raise ValueError(f"its {CONFIG} is not a JSON object")
    return found


def _of_config(config: dict[str, Any], model: ModelConfig) -> Iterator[str]:
    if (kind := config.get("peft_type", "LORA")) != "LORA":
        yield f"it is of PEFT's kind {kind!r}, and only 'LORA' is served"
    ranks = config.get("rank_pattern") or {}
    if not isinstance(ranks, dict):
        raise ValueError(f"rank_pattern in its {CONFIG} is not an object")
    for rank in (config.get("r"), *ranks.values()):
        if type(rank) is not int or rank < 1:
            yield f"its rank in {CONFIG} is {rank!r}, which is no whole number above 0"
        elif model.adapters and rank > model.adapters.max_rank:
            yield f"its rank is {rank}, and max_rank of {model.id} is {model.adapters.max_rank}"
    if not isinstance(config.get("lora_alpha"), int | float):
        yield f"its {CONFIG} has no lora_alpha"
    if config.get("bias", "none") != "none":
        yield f"it has a bias ({config['bias']!r}), which vLLM does not serve"
    for name in UNSUPPORTED:
        if config.get(name):
            yield f"it was made with {name}, which vLLM does not serve"
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower() not in PLAIN_STARTS:
        yield f"it was made with init_lora_weights {start!r}, which changes the weights of the model itself"
    of, own = catalog.find(config.get("base_model_name_or_path")), catalog.find(model.id) or catalog.find(model.source)
    if of and own and of != own:
        yield f"it is an adapter of {of}, and {model.id} is {own}"


def _of_tensors(shapes: safetensors.Shapes, config: dict[str, Any], model: ModelConfig) -> Iterator[str]:
    if not shapes:
        yield f"its {WEIGHTS} has no tensors"
    layers = base.layers(model.weights)
    modules: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        if name.endswith(OF_THE_MODEL):
            continue
        module, part = _split(name)
        if part is None:
            yield f"{name} is no part of a LoRA adapter"
            return
        modules.setdefault(module, {})[part] = shape
    for module, parts in modules.items():
        down, up = parts.get("A"), parts.get("B")
        own = base.find(layers, module)
        if down is None or up is None:
            yield f"{module} has only one of lora_A and lora_B"
        elif len(own or ()) > 2 or len(down) > 2:
            yield f"it adapts the convolution {module}, and vLLM adapts linear layers alone"
        elif module.rpartition(".")[2] in ON_THE_OUTSIDE and gpu_share(model) == 0:
            yield f"it adapts {module}, which vLLM's CPU build cannot"
        elif len(down) != 2 or len(up) != 2 or down[0] != up[1]:
            yield f"lora_A and lora_B of {module} do not fit together: {list(down)} and {list(up)}"
        elif model.adapters and down[0] > model.adapters.max_rank:
            yield f"the rank of {module} is {down[0]}, and max_rank of {model.id} is {model.adapters.max_rank}"
        elif not config.get("rank_pattern") and down[0] != config["r"]:
            yield f"the rank of {module} is {down[0]}, and {CONFIG} says {config['r']}"
        elif layers and ".experts" not in module and module.rpartition(".")[2] not in ON_THE_OUTSIDE:
            yield from _of_layer(module, own, down, up, model)


def _of_layer(
    module: str, own: tuple[int, ...] | None, down: tuple[int, ...], up: tuple[int, ...], model: ModelConfig
) -> Iterator[str]:
    if own is None:
        yield f"it adapts {module}, which {model.id} has not"
    elif own != (up[0], down[1]):
        yield f"{module} is {up[0]} x {down[1]} in it and {own[0]} x {own[1]} in {model.id}: it is of another model"


def _split(name: str) -> tuple[str, str | None]:
    """A tensor's module, and A or B; None for what is neither."""
    for part in ("A", "B"):
        for ending in (f".lora_{part}.weight", f".lora_embedding_{part}"):
            if name.endswith(ending):
                return name.removesuffix(ending).removeprefix(_PREFIX), part
    return name, None
