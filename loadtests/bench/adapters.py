"""The adapters that contenders of a comparison are given, and their names."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

import serve_app

DEMO = Path(serve_app.__file__).parent / "demo" / "adapters"
DEMO_RANK = 8
"""Of the adapters of `lfm2-demo`."""
TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "in_proj", "w1", "w2", "w3")
"""The linear layers of LFM2's blocks."""
SPREAD = 0.02
"""Standard deviation of random matrices, as LFM2's own weights begin."""
LOADS = "serve_app_adapter_loads_total"


@dataclass(frozen=True)
class PeerAdapters:
    """Adapters that every contender serves beside the model."""

    count: int
    max_rank: int
    max_loaded: int
    """How many one engine has on its device at the same time."""
    make: Callable[[Path, tuple[str, ...]], dict[str, Path]]
    """Given a folder to write to and their names, the folder of each."""
    answer: str = ""
    """What the first of them must answer to the question of the setup."""

    @property
    def names(self) -> tuple[str, ...]:
        """What they are called, the first of them first."""
        return names(self.count)


def names(count: int) -> tuple[str, ...]:
    """Names of so many adapters."""
    return tuple(f"adapter-{number:02}" for number in range(count))


def loads(page: str) -> float | None:
    """How often adapters were loaded, by a page of metrics; None where it does not tell. Raises ValueError for what is
    no such page."""
    families = [one for one in text_string_to_metric_families(page) if one.name == LOADS.removesuffix("_total")]
    return sum(sample.value for one in families for sample in one.samples) if families else None


def demo(folder: Path, names: tuple[str, ...]) -> dict[str, Path]:
    """The demo's adapters in turn under these names: each is loaded as if it were another."""
    return dict(zip(names, cycle((DEMO / "capitals", DEMO / "kettle")), strict=False))


def random(source: str, rank: int) -> Callable[[Path, tuple[str, ...]], dict[str, Path]]:
    """Adapters of this rank with random weights for the model at `source`, a path or a repository, of which only the
    configuration is read."""

    def make(folder: Path, names: tuple[str, ...]) -> dict[str, Path]:
        found = {name: folder / "adapters" / name for name in names}
        if missing := {seed: path for seed, path in enumerate(found.values()) if not path.exists()}:
            shapes = _shapes(source)
            for seed, path in missing.items():
                _write(path, shapes, rank, seed)
        return found

    return make


def _shapes(source: str) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of the layers, by the names that PEFT's files give them."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source))
    return {
        f"base_model.model.{name}": (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name.rpartition(".")[2] in TARGETS
    }


def _write(folder: Path, shapes: dict[str, tuple[int, int]], rank: int, seed: int) -> None:
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (outputs, inputs) in shapes.items():
        for part, shape in (("lora_A", (rank, inputs)), ("lora_B", (outputs, rank))):
            tensors[f"{name}.{part}.weight"] = (torch.randn(shape, generator=draw) * SPREAD).to(torch.bfloat16)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"target_modules": list(TARGETS)}))
