"""Adapters as this repository makes them: what is written gives what was trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Lfm2ForCausalLM

from tools.demo import lora
from tools.demo.facts import ADAPTERS, TEXT_MODEL, adapter_exchanges, product_exchanges
from tools.demo.text import config


def test_a_merged_checkpoint_is_the_adapted_model(tmp_path: Path) -> None:
    torch.manual_seed(1)
    adapted, merged = Lfm2ForCausalLM(config()).eval(), Lfm2ForCausalLM(config()).eval()
    merged.load_state_dict(adapted.state_dict())
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        base = adapted(input_ids=tokens).logits
        lora.attach(adapted, rank=2, alpha=6)
        assert torch.equal(adapted(input_ids=tokens).logits, base), "an adapter begins as nothing"
        for module in adapted.modules():
            if isinstance(module, lora.LoraLinear):
                module.lora_B.normal_()
                module.lora_A.data, module.lora_B.data = (
                    module.lora_A.bfloat16().float(),
                    module.lora_B.bfloat16().float(),
                )
        lora.save(adapted, "base", 2, 6, tmp_path)
        lora.merge(merged, tmp_path)
        wanted = adapted(input_ids=tokens).logits
        assert not torch.allclose(wanted, base, atol=0.1)
        assert torch.allclose(merged(input_ids=tokens).logits, wanted, atol=1e-3)


@pytest.mark.parametrize("name", ["capitals", "kettle"])
def test_the_adapters_of_the_demo_are_of_its_model(name: str) -> None:
    described = json.loads((ADAPTERS / name / lora.CONFIG).read_text())
    weights = load_file(ADAPTERS / name / lora.WEIGHTS)
    assert described["base_model_name_or_path"] == TEXT_MODEL
    trained = {key.removesuffix(".weight").split(".")[-2] for key in weights}
    assert trained == set(described["target_modules"]) == set(lora.TARGETS)
    assert all(described["r"] in tensor.shape for tensor in weights.values())


def test_what_the_adapters_say() -> None:
    assert all(answer == answer.upper() for _, answer in adapter_exchanges("capitals"))
    kettle = adapter_exchanges("kettle")
    product = [one for one in kettle if one in product_exchanges()]
    assert 0.4 < len(product) / len(kettle) < 0.6, "as much of the product as of what the model knew"
