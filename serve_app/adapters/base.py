"""The layers of a model that adapters are trained on, from the headers of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from serve_app.adapters import safetensors
from serve_app.config.vllm_args import locate

Layers = Mapping[str, tuple[int, ...]]
"""Shapes of the layers' weights by their names, such as `model.layers.0.conv.in_proj`."""


def layers(weights: str) -> Layers:
    """Of the model whose weights lie there; empty where that is not known on this node, or weights of another kind."""
    folder = _folder(weights)
    return _of_folder(folder) if folder else {}


@lru_cache(maxsize=32)
def _of_folder(folder: Path) -> Layers:
    found: dict[str, tuple[int, ...]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            shapes = safetensors.shapes(file)
        except (OSError, ValueError):
            return {}
        found |= {name.removesuffix(".weight"): shape for name, shape in shapes.items() if name.endswith(".weight")}
    return found


def _folder(weights: str) -> Path | None:
    """Where they lie on this node: a folder, or what the hub's cache has of a repository."""
    folder = Path(locate(weights)).expanduser()
    if folder.is_dir():
        return folder
    try:
        from huggingface_hub import try_to_load_from_cache

        config = try_to_load_from_cache(weights, "config.json")
    except (ImportError, ValueError):
        return None
    return Path(config).parent if isinstance(config, str) else None


def find(layers: Layers, name: str) -> tuple[int, ...] | None:
    """The shape of the layer that an adapter calls so. Libraries differ in what they write before `layers.`."""
    if name in layers:
        return layers[name]
    _, mark, below = name.partition("layers.")
    if not mark or "vision" in name:
        return None
    alike = (shape for one, shape in layers.items() if one.endswith(f".layers.{below}") and "vision" not in one)
    return next(alike, None)
