"""Memory of adapters: of one, of those loaded at the same time, and what is left beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import serve_app
from serve_app.config import catalog
from serve_app.config.schema import ModelConfig, ServiceConfig
from serve_app.planning import adapters, check, plan
from serve_app.planning.resolve import resolve

GIB = 2**30
GPU = 80 * GIB
PER_RANK = 2 * 2**20
MEMORY = {"weights_gib": 2, "kv_bytes_per_token": 10_240, "reserve_gib": 3}
SMALL = {"width": 1024, "layers": 16, "attention": 6, "heads": 16, "inner": 6656}
LARGE = {"width": 2048, "layers": 30, "attention": 8, "heads": 32, "inner": 10752, "adjusted": False}
SPARSE = {"width": 2048, "layers": 24, "attention": 6, "heads": 32, "inner": 7168, "adjusted": False}
SHAPES: dict[str, dict[str, Any]] = {
    "LiquidAI/LFM2-350M": SMALL,
    "LiquidAI/LFM2-700M": {"width": 1536, "layers": 16, "attention": 6, "heads": 24, "inner": 10240},
    "LiquidAI/LFM2-1.2B": {"width": 2048, "layers": 16, "attention": 6, "heads": 32, "inner": 12288},
    "LiquidAI/LFM2-2.6B": LARGE,
    "LiquidAI/LFM2-8B-A1B": {**SPARSE, "experts": (2, 32, 1792)},
    "LiquidAI/LFM2-24B-A2B": {**SPARSE, "layers": 40, "attention": 10, "experts": (2, 64, 1536)},
    "LiquidAI/LFM2.5-230M": {**SMALL, "layers": 14, "inner": 2560, "adjusted": False},
    "LiquidAI/LFM2.5-2.6B": {**LARGE, "vocabulary": 128000},
}


def shape(
    width: int,
    layers: int,
    attention: int,
    heads: int,
    inner: int,
    adjusted: bool = True,
    vocabulary: int = 65536,
    experts: tuple[int, int, int] | None = None,
) -> dict[str, Any]:
    """A `config.json` of LFM2; `experts`: dense layers, experts of each other layer, the width of one."""
    names = ("num_dense_layers", "num_experts", "moe_intermediate_size")
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "full_attn_idxs": list(range(attention)),
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "block_ff_dim": inner,
        "block_auto_adjust_ff_dim": adjusted,
        "block_multiple_of": 256,
        "conv_L_cache": 3,
        "vocab_size": vocabulary,
        **(dict(zip(names, experts, strict=True)) if experts else {}),
    }


def model(max_loaded: int = 8, max_rank: int = 32, **entry: Any) -> ModelConfig:
    own = {"max_loaded": max_loaded, "max_rank": max_rank, "list": [{"id": "a", "source": "/a"}]}
    base = {"id": "some/model", "memory": {**MEMORY, "adapter_bytes_per_rank": PER_RANK}, "adapters": own, "gpus": 0.5}
    return resolve(ServiceConfig.parse({"models": [base | entry]})).config.models[0]


@pytest.mark.parametrize("name", SHAPES)
def test_the_catalog_has_what_a_models_shape_comes_to(name: str) -> None:
    assert catalog.knowledge(name)["memory"]["adapter_bytes_per_rank"] == adapters.bytes_per_rank(shape(**SHAPES[name]))


def test_the_catalog_knows_every_model_that_generates() -> None:
    known = {name: catalog.knowledge(name) for name in catalog.ids()}
    assert [name for name, one in known.items() if "adapter_bytes_per_rank" not in one["memory"]] == [
        name for name, one in known.items() if one.get("kind") == "embedding"
    ]


def test_a_vision_model_is_as_its_text_model() -> None:
    config = json.loads((Path(serve_app.__file__).parent / "demo" / "lfm2-vl-demo" / "config.json").read_text())
    assert adapters.bytes_per_rank(config) == adapters.bytes_per_rank(config["text_config"])


def test_adapters_take_of_the_kv_cache() -> None:
    with_them, without = (plan.kv_cache_bytes(one, GPU) for one in (model(), model(adapters=None)))
    assert with_them is not None and without is not None
    assert without - with_them == 8 * 32 * PER_RANK == adapters.bytes_at_once(model())
    assert plan.model_plan(model(), GPU).adapters_gib == 0.5


def test_each_gpu_of_a_replica_has_them() -> None:
    one, without = (plan.model_plan(each, GPU) for each in (model(gpus=2), model(gpus=2, adapters=None)))
    assert one.kv_gib is not None and without.kv_gib is not None
    assert without.kv_gib - one.kv_gib == pytest.approx(2 * 0.5, abs=0.01)


@pytest.mark.parametrize("context", [None, 32768])
def test_as_many_fit_as_leave_room_for_sequences(context: int | None) -> None:
    entry = {"engine_args": {"max_model_len": context} if context else {}, "max_running": 16}
    fit = plan.model_plan(model(**entry), GPU).adapters_fit
    assert fit is not None and fit > 8
    held = [plan.model_plan(model(max_loaded=count, **entry), GPU) for count in (fit, fit + 1)]
    tokens = context or 16 * 2048
    assert [one.tokens is not None and one.tokens >= tokens for one in held] == [True, False]
    assert bool(held[0].warnings) < bool(held[1].warnings)


def test_too_many_do_not_fit_and_are_told() -> None:
    planned = plan.model_plan(model(max_loaded=700), GPU)
    assert "does not fit" in planned.warnings[0] and "adapters (43.75 GiB" in planned.warnings[0]
    with pytest.raises(ValueError, match="adapters"):
        plan.kv_cache_bytes(model(max_loaded=700), GPU)


def test_auto_packs_fewer_replicas_where_adapters_take_the_room() -> None:
    packed = {"gpus": None, "replicas_per_gpu": "auto", "packing": 8}
    assert model(**packed).gpus == 1 / 8 and model(max_loaded=64, **packed).gpus == 1 / 4


def test_adapters_of_unknown_size_are_told() -> None:
    planned = plan.model_plan(model(memory=MEMORY), GPU)
    assert "adapter_bytes_per_rank" in planned.warnings[0] and planned.adapters_gib is None


def test_check_says_what_they_take_and_how_many_fit() -> None:
    line = check._adapters(plan.model_plan(model(), GPU), 8)
    assert line.startswith("adapters: 8 at the same time on one replica; 0.5 GiB of its GPU") and "would fit" in line
    on_cpu = check._adapters(plan.model_plan(model(gpus=0), GPU), 8)
    assert "host's memory" in on_cpu and "would fit" not in on_cpu
