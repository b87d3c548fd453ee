"""What the catalog adds to an entry, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.config import catalog
from serve_app.config.schema import ModelConfig


@pytest.mark.parametrize("known", catalog.ids())
def test_every_model_is_a_valid_entry_by_its_id_alone(known: str) -> None:
    model = ModelConfig.model_validate({"id": known})
    assert model.id == known
    assert model.memory is not None


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("LiquidAI/LFM2-1.2B", "LiquidAI/LFM2-1.2B"),
        ("liquidai/lfm2-1.2b", "LiquidAI/LFM2-1.2B"),
        ("LFM2-1.2B", "LiquidAI/LFM2-1.2B"),
        ("/models/lfm2.5-vl-3b", "LiquidAI/LFM2.5-VL-3B"),
        ("lfm2-demo", "lfm2-demo"),
        ("someone/else", None),
        (7, None),
        (None, None),
    ],
)
def test_names_are_matched_exactly_then_by_case_then_by_last_part(name: Any, known: str | None) -> None:
    assert catalog.find(name) == known


@pytest.mark.parametrize(
    ("entry", "source"),
    [
        ({"id": "LiquidAI/LFM2-1.2B"}, None),
        ({"id": "LFM2-1.2B"}, "LiquidAI/LFM2-1.2B"),
        ({"id": "/models/LFM2-1.2B"}, None),
        ({"id": "someone/LFM2-1.2B"}, None),
        ({"id": "chat", "source": "LFM2-1.2B"}, "LiquidAI/LFM2-1.2B"),
        ({"id": "chat", "source": "lfm2-demo"}, "package:demo/lfm2-demo"),
        ({"id": "LFM2-1.2B", "source": "/models/mine"}, "/models/mine"),
        ({"id": "lfm2-demo"}, "package:demo/lfm2-demo"),
    ],
)
def test_weights_come_from_where_the_entry_means(entry: dict[str, Any], source: str | None) -> None:
    assert ModelConfig.model_validate(entry).source == source


def test_source_names_the_model_when_the_id_does_not() -> None:
    model = ModelConfig.model_validate({"id": "chat", "source": "LiquidAI/LFM2.5-1.2B-Thinking"})
    assert model.reasoning_parser == "qwen3"


def test_an_unknown_model_is_left_as_it_is() -> None:
    entry = {"id": "someone/else", "kind": "text"}
    assert catalog.fill(entry) == entry


def test_family_then_model_then_entry() -> None:
    sampling = catalog.fill({"id": "LiquidAI/LFM2.5-1.2B-Thinking", "sampling": {"top_k": 7}})["sampling"]
    assert sampling["repetition_penalty"] == 1.05, "from the text family"
    assert sampling["min_p"] is None, "taken away by the LFM2.5 family"
    assert sampling["temperature"] == 0.05, "from the model"
    assert sampling["top_k"] == 7, "from the entry"


def test_engine_arguments_are_merged_by_key() -> None:
    arguments = catalog.fill({"id": "LiquidAI/LFM2-1.2B", "engine_args": {"dtype": "half"}})["engine_args"]
    assert arguments == {"max_model_len": 32768, "dtype": "half"}


def test_what_is_not_a_mapping_replaces() -> None:
    assert catalog.merge({"a": [1, 2], "b": {"c": 1}}, {"a": [3], "b": 2}) == {"a": [3], "b": 2}


def test_replicas_per_gpu_drops_the_catalogs_gpus() -> None:
    model = ModelConfig.model_validate({"id": "lfm2-demo", "replicas_per_gpu": 4})
    assert (model.gpus, model.replicas_per_gpu) == (None, 4)
    assert ModelConfig.model_validate({"id": "lfm2-demo"}).gpus == 0


def test_larger_models_are_packed_no_closer() -> None:
    packed = [catalog.knowledge(f"LiquidAI/LFM2-{size}")["packing"] for size in ("350M", "1.2B", "2.6B", "24B-A2B")]
    assert packed == sorted(packed, reverse=True)
    assert catalog.knowledge("LiquidAI/LFM2-VL-1.6B")["packing"] == catalog.knowledge("LiquidAI/LFM2-1.2B")["packing"]
    assert catalog.knowledge("LiquidAI/LFM2-VL-3B")["packing"] == catalog.knowledge("LiquidAI/LFM2-2.6B")["packing"]


def test_the_catalog_cannot_be_changed_through_what_it_gives() -> None:
    catalog.fill({"id": "LiquidAI/LFM2-1.2B"})["engine_args"]["max_model_len"] = 1
    assert catalog.fill({"id": "LiquidAI/LFM2-1.2B"})["engine_args"]["max_model_len"] == 32768


def test_a_filled_model_survives_being_filled_again() -> None:
    for known in catalog.ids():
        model = ModelConfig.model_validate({"id": known})
        assert ModelConfig.model_validate(model.model_dump()) == model
