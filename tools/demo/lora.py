"""Low-rank adapters of a model's linear layers, in the files that PEFT writes and vLLM reads."""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "in_proj", "w1", "w2", "w3")
"""All linear layers of LFM2's blocks: attention, the convolution's projections, and the feed-forward network. The
convolution itself is no matrix and stays the base's."""
PREFIX = "base_model.model."
"""Before the names of modules in PEFT's files."""
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


class LoraLinear(nn.Module):
    """A frozen linear layer and, beside it, the product of two thin matrices, which is learned."""

    def __init__(self, base: nn.Linear, rank: int, alpha: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scale = alpha / rank
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """The base's output, moved by the adapter."""
        return self.base(x) + self.scale * functional.linear(functional.linear(x, self.lora_A), self.lora_B)


def attach(model: PreTrainedModel, rank: int, alpha: int) -> None:
    """Freeze the model, and put an adapter that changes nothing yet on each of TARGETS."""
    model.requires_grad_(False)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in TARGETS:
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, LoraLinear(module, rank, alpha))


def save(model: PreTrainedModel, base: str, rank: int, alpha: int, out: Path) -> None:
    """Write the adapters of `model`, of which `base` is the name, to the folder `out` in bfloat16."""
    out.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{PREFIX}{name}.{part}.weight": getattr(module, part).detach().to(torch.bfloat16).contiguous()
        for name, module in model.named_modules()
        if isinstance(module, LoraLinear)
        for part in ("lora_A", "lora_B")
    }
    save_file(tensors, out / WEIGHTS)
    (out / WEIGHTS).chmod(0o644)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(TARGETS),
        "inference_mode": True,
    }
    (out / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def merge(model: PreTrainedModel, adapter: Path) -> None:
    """Add the adapter in the folder `adapter` to the model's own weights."""
    config = json.loads((adapter / CONFIG).read_text())
    scale = config["lora_alpha"] / config["r"]
    tensors = load_file(adapter / WEIGHTS)
    names = {key.removeprefix(PREFIX).removesuffix(".lora_A.weight") for key in tensors if ".lora_A." in key}
    for name in sorted(names):
        down, up = (tensors[f"{PREFIX}{name}.{part}.weight"].float() for part in ("lora_A", "lora_B"))
        weight = model.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        weight.data += (scale * up @ down).to(weight.dtype)
