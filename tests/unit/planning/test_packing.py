"""How many engines share a GPU: as many as pay and fit where `auto` is to choose."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from serve_app.config import catalog
from serve_app.config.errors import ConfigError
from serve_app.config.schema import ModelConfig, ServiceConfig
from serve_app.planning import plan
from serve_app.planning.resolve import Resolved, gpu_share, replica_bounds, resolve

GIB = 2**30
GPU = 80 * GIB
MEMORY = {"weights_gib": 2, "kv_bytes_per_token": 10_240, "state_bytes_per_sequence": 1_048_576, "reserve_gib": 3}


def model(**entry: Any) -> ModelConfig:
    return resolve(
        ServiceConfig.model_validate({"models": [{"id": "some/model", "memory": MEMORY} | entry]})
    ).config.models[0]


@pytest.mark.parametrize("replicas", range(1, 17))
def test_as_many_replicas_fit_a_gpu_as_it_is_said_to_hold(replicas: int) -> None:
    share = gpu_share(model(replicas_per_gpu=replicas))
    assert round(share * 10_000) * replicas <= 10_000
    assert plan.gpus_needed([share] * replicas) == 1


def automatic(memory_gib: float | None = 80, **entry: Any) -> ModelConfig:
    return service(memory_gib, **entry).config.models[0]


def service(memory_gib: float | None, **entry: Any) -> Resolved:
    args = {"models": [{"id": "some/model", "memory": MEMORY, "replicas_per_gpu": "auto"} | entry]}
    return resolve(ServiceConfig.model_validate(args | {"gpu_memory_gib": memory_gib}))


@pytest.mark.parametrize(("knee", "replicas"), [(1, 1), (2, 2), (3, 2), (4, 4), (7, 4), (8, 8)])
def test_auto_packs_up_to_the_knee(knee: int, replicas: int) -> None:
    chosen = automatic(packing=knee)
    assert gpu_share(chosen) == 1 / replicas
    assert replica_bounds(chosen) == (replicas, replicas)


@pytest.mark.parametrize("unknown", [{"packing": None}, {"packing": 8, "memory": None}])
def test_auto_is_one_where_facts_are_missing(unknown: dict[str, Any]) -> None:
    assert gpu_share(automatic(**unknown)) == 1


@pytest.mark.parametrize("max_model_len", [None, 128_000])
def test_auto_packs_as_many_as_have_a_context_and_64_sequences(max_model_len: int | None) -> None:
    arguments = {"max_model_len": max_model_len} if max_model_len else {}
    taken = set()
    for gib in range(8, 120, 2):
        chosen = automatic(gib, packing=8, engine_args=arguments)
        count = round(1 / gpu_share(chosen))
        assert count == max(n for n in (1, 2, 4, 8) if n == 1 or roomy(n, gib, arguments))
        taken.add(count)
    assert taken == {1, 2, 4, 8}


def roomy(replicas_per_gpu: int, gib: int, arguments: dict[str, Any]) -> bool:
    planned = plan.model_plan(model(replicas_per_gpu=replicas_per_gpu, engine_args=arguments), gib * GIB)
    return (planned.sequences or 0) >= 64 and planned.full_sequences != 0


@pytest.mark.parametrize(("kv_gib", "replicas"), [(1, 8), (30, 2), (100, 1)])
def test_auto_makes_room_for_the_cache_that_is_asked_for(kv_gib: int, replicas: int) -> None:
    chosen = automatic(packing=8, engine_args={"kv_cache_memory_bytes": kv_gib * GIB})
    assert gpu_share(chosen) == 1 / replicas


def test_auto_keeps_the_replicas_that_are_asked_for() -> None:
    assert replica_bounds(automatic(packing=4, replicas=6)) == (6, 6)
    scaled = automatic(packing=4, autoscaling={"min_replicas": 0, "max_replicas": 3})
    assert replica_bounds(scaled) == (0, 3)
    assert scaled.replicas is None
    assert gpu_share(scaled) == 0.25


def test_auto_on_gpus_smaller_than_it_was_told_comes_with_a_way_out() -> None:
    chosen = automatic(None, packing=8)
    assert gpu_share(chosen) == 1 / 8
    assert "set gpu_memory_gib to 24" in plan.model_plan(chosen, 24 * GIB).warnings[0]
    assert not [one for one in plan.model_plan(automatic(24, packing=8), 24 * GIB).warnings if "fit" in one]


def test_what_auto_came_to_travels_between_processes() -> None:
    entry = {"id": "LiquidAI/LFM2-1.2B", "replicas_per_gpu": "auto"}
    config = ServiceConfig.parse({"models": [entry], "gpu_memory_gib": 24})
    chosen = resolve(config).config.models[0]
    assert gpu_share(chosen) == gpu_share(pickle.loads(pickle.dumps(chosen))) == 0.5
    assert ServiceConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize("given", ["lots", 0, 1.5])
def test_auto_is_the_only_word_that_replicas_per_gpu_takes(given: Any) -> None:
    told = rf"models\[0\]\.replicas_per_gpu: should be auto or a whole number above 0, not {given!r}$"
    with pytest.raises(ConfigError, match=told):
        automatic(replicas_per_gpu=given)


def test_auto_beside_gpus_says_it_twice() -> None:
    with pytest.raises(ConfigError, match="keep one"):
        automatic(gpus=1)


def test_auto_of_a_simulated_engine_takes_no_gpu() -> None:
    chosen = automatic(packing=4, engine="simulated")
    assert (gpu_share(chosen), replica_bounds(chosen)) == (0, (1, 1))


def test_auto_says_on_which_cards_its_knee_was_measured() -> None:
    args = {"models": [{"id": "LiquidAI/LFM2-1.2B", "replicas_per_gpu": "auto"}]}
    chosen = resolve(ServiceConfig.model_validate(args)).packings["LiquidAI/LFM2-1.2B"]
    assert chosen.replicas_per_gpu == 4
    assert "more than 4" in chosen.reason and "measured on H100 and H200, 16 cores" in chosen.reason
    args["models"][0]["packing"] = 8  # type: ignore[assignment]
    chosen = resolve(ServiceConfig.model_validate(args)).packings["LiquidAI/LFM2-1.2B"]
    assert "measured" not in chosen.reason, "that number is the user's"


def test_every_packing_of_the_catalog_says_how_it_is_known() -> None:
    for name in catalog.ids():
        if (packing := catalog.knowledge(name).get("packing")) is not None:
            assert catalog.packing_basis(name, packing)
