"""What is wrong with an adapter is said in one sentence, from its files alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve_app.adapters.files import problem
from serve_app.config.schema import ModelConfig, ServiceConfig
from serve_app.planning.resolve import resolve
from tests.support.adapters import DEMO, WEIGHTS, configured, copied, retold

MODULE = "base_model.model.model.layers.1.self_attn.q_proj"


def model(id: str = "lfm2-demo", **entry: Any) -> ModelConfig:
    whole = {"id": id, "gpus": 0, "adapters": {"directory": "/adapters", "max_rank": 8}, **entry}
    return resolve(ServiceConfig.parse({"models": [whole]})).config.models[0]


@pytest.mark.parametrize("name", ["capitals", "kettle"])
def test_the_demo_adapters_fit_their_model(name: str) -> None:
    assert problem(DEMO / name, model()) is None
    assert problem(DEMO / name, model("own", source="package:demo/lfm2-demo")) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"r": 64}, "its rank is 64, and max_rank of lfm2-demo is 8"),
        ({"rank_pattern": {"q_proj": 9}}, "its rank is 9"),
        ({"r": "8"}, "its rank in adapter_config.json is '8', which is no whole number above 0"),
        ({"r": 4}, "is 8, and adapter_config.json says 4"),
        ({"peft_type": "IA3"}, "PEFT's kind 'IA3'"),
        ({"use_dora": True}, "made with use_dora, which vLLM does not serve"),
        ({"modules_to_save": ["lm_head"]}, "made with modules_to_save"),
        ({"bias": "all"}, "it has a bias"),
        ({"init_lora_weights": "pissa"}, "changes the weights of the model itself"),
        ({"lora_alpha": None}, "has no lora_alpha"),
        ({"base_model_name_or_path": "LiquidAI/LFM2-1.2B"}, "it is an adapter of LiquidAI/LFM2-1.2B, and lfm2-demo is"),
    ],
)
def test_a_setting_that_cannot_be_served(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    wrong = problem(configured(copied(tmp_path / "a"), **changes), model())
    assert wrong is not None and said in wrong


def renamed(old: str, new: str) -> Callable[[dict[str, Any]], object]:
    def change(header: dict[str, Any]) -> None:
        for name in [name for name in header if old in name]:
            header[name.replace(old, new)] = header.pop(name)

    return change


def shaped(part: str, shape: list[int]) -> Callable[[dict[str, Any]], object]:
    return lambda header: header[f"{MODULE}.{part}.weight"].update(shape=shape)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (shaped("lora_A", [8, 64]), "q_proj is 128 x 64 in it and 128 x 128 in lfm2-demo: it is of another model"),
        (shaped("lora_A", [16, 64]), "lora_A and lora_B of model.layers.1.self_attn.q_proj do not fit together"),
        (renamed("layers.3.", "layers.17."), "layers.17."),
        (renamed("conv.in_proj", "conv.conv"), "it adapts the convolution model.layers.0.conv.conv"),
        (renamed("layers.1.self_attn.q_proj", "lm_head"), "lm_head, which vLLM's CPU build cannot"),
        (lambda header: header.pop(f"{MODULE}.lora_B.weight"), "has only one of lora_A and lora_B"),
        (renamed("self_attn.q_proj.lora_A.weight", "self_attn.q_proj.weight"), "is no part of a LoRA adapter"),
        (lambda header: header.clear(), "should have"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str) -> None:
    wrong = problem(retold(copied(tmp_path / "a"), change), model())
    assert wrong is not None and said in wrong


def test_files_that_are_broken_or_missing(tmp_path: Path) -> None:
    def after(change: Callable[[Path], object], name: str) -> str | None:
        change(copied(tmp_path / name))
        return problem(tmp_path / name, model())

    whole = (DEMO / "kettle" / WEIGHTS).read_bytes()
    assert "should have 120,760" in str(after(lambda at: (at / WEIGHTS).write_bytes(whole[:-1000]), "cut"))
    assert "only a part of one" in str(after(lambda at: (at / WEIGHTS).write_bytes(whole[:100]), "shorter"))
    assert "only a part of one" in str(after(lambda at: (at / WEIGHTS).write_bytes(b""), "empty"))
    assert "not JSON" in str(after(lambda at: (at / WEIGHTS).write_bytes(b"\4" + bytes(7) + b"{{{{"), "odd"))
    assert after(lambda at: (at / WEIGHTS).unlink(), "none") == f"it has no {WEIGHTS}"
    assert "not a JSON object" in str(after(lambda at: (at / "adapter_config.json").write_text("[]"), "list"))
    assert after(lambda at: (at / "adapter_config.json").unlink(), "plain") == "it has no adapter_config.json"


def test_an_adapter_of_a_model_whose_weights_are_not_here_is_left_to_the_engine() -> None:
    assert problem(DEMO / "kettle", model("somebody/else-1B")) is None
