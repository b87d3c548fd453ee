"""The planner's arithmetic."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.config.schema import ModelConfig, ServiceConfig
from serve_app.planning import plan
from serve_app.planning.resolve import resolve

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
