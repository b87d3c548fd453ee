"""The planner's arithmetic."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

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


def test_a_shares_kv_cache_is_what_weights_and_reserve_leave() -> None:
    assert plan.kv_cache_bytes(model(gpus=0.5), GPU) == pytest.approx((0.5 * 0.92 * 80 - 2 - 3) * GIB, abs=2)


def test_without_memory_facts_nothing_is_known() -> None:
    assert plan.kv_cache_bytes(model(memory=None, gpus=0.5), GPU) is None
    known = plan.model_plan(model(memory=None, gpus=0.5), GPU)
    assert (known.kv_gib, known.tokens) == (None, None)


def test_a_share_too_small_says_what_to_change() -> None:
    with pytest.raises(ValueError, match=r"some/model does not fit.*gpus"):
        plan.kv_cache_bytes(model(gpus=0.05), GPU)
    assert "does not fit" in plan.model_plan(model(gpus=0.05), GPU).warnings[0]


def test_tokens_and_sequences() -> None:
    planned = plan.model_plan(model(gpus=0.5), GPU)
    kv = plan.kv_cache_bytes(model(gpus=0.5), GPU)
    assert kv is not None
    assert planned.tokens == kv // 10_240
    assert planned.sequences == kv // (2048 * 10_240 + 1_048_576)


def test_tensor_parallel_replicas_hold_weights_once_and_a_reserve_on_each_gpu() -> None:
    planned = plan.model_plan(model(gpus=2), GPU)
    assert planned.kv_gib == pytest.approx(2 * 0.92 * 80 - 2 - 2 * 3, abs=0.01)


def test_a_cache_smaller_than_one_context_is_told() -> None:
    warnings = plan.model_plan(model(gpus=0.07, engine_args={"max_model_len": 128_000}), GPU).warnings
    assert len(warnings) == 1
    assert "128000" in warnings[0].replace(",", "")


def test_more_running_sequences_than_fit_are_told() -> None:
    assert plan.model_plan(model(gpus=0.5, max_running=256), GPU).warnings == ()
    assert "max_running" in plan.model_plan(model(gpus=0.5, max_running=5000), GPU).warnings[0]


def test_cpu_cache_is_at_least_128_mib_and_a_full_context() -> None:
    assert plan.cpu_kv_cache_bytes(model(memory=None, gpus=0)) == 128 * 2**20
    assert plan.cpu_kv_cache_bytes(model(gpus=0, max_running=1)) == 128 * 2**20
    long = model(gpus=0, max_running=1, engine_args={"max_model_len": 100_000})
    assert plan.cpu_kv_cache_bytes(long) >= 100_000 * 10_240


def test_cpu_cache_grows_with_max_running_up_to_4_gib() -> None:
    few, many = (plan.cpu_kv_cache_bytes(model(gpus=0, max_running=n)) for n in (64, 128))
    assert few < many < 4 * GIB
    assert plan.cpu_kv_cache_bytes(model(gpus=0, max_running=100_000)) == 4 * GIB


@pytest.mark.parametrize(
    ("shares", "gpus"),
    [
        ([], 0),
        ([0.0, 0.0], 0),
        ([0.3, 0.3, 0.4], 1),
        ([1 / 3] * 3, 1),
        ([0.6, 0.6], 2),
        ([0.4, 0.6, 0.4, 0.6], 2),
        ([2.0, 1.0, 0.5], 4),
    ],
)
def test_gpus_needed(shares: list[float], gpus: int) -> None:
    assert plan.gpus_needed(shares) == gpus


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


def test_the_service_is_planned_from_its_fewest_to_its_most_replicas() -> None:
    config = ServiceConfig.model_validate(
        {
            "models": [
                {"id": "a", "gpus": 0.5, "cpus": 2, "autoscaling": {"min_replicas": 0, "max_replicas": 5}},
                {"id": "b", "gpus": 1, "replicas": 2},
            ],
            "ingress": {"replicas": 2, "cpus": 0.5},
        }
    )
    planned = plan.plan(resolve(config), GPU)
    assert (planned.gpus_min, planned.gpus_max) == (2, 5)
    assert (planned.cpus_min, planned.cpus_max) == (3, 13)


def test_simulated_engines_need_no_gpu() -> None:
    planned = plan.model_plan(model(engine="simulated"), GPU)
    assert (planned.gpu_share, planned.kv_gib) == (0, None)
