"""What a configuration leaves open, and what is decided of it."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.config.schema import ModelConfig, ServiceConfig
from serve_app.planning.resolve import Resolved, gpu_share, replica_bounds, resolve

MEMORY = {"weights_gib": 2, "kv_bytes_per_token": 10_240}


def resolved(**entry: Any) -> Resolved:
    return resolve(ServiceConfig.model_validate({"models": [{"id": "some/model"} | entry], "gpu_memory_gib": 80}))


@pytest.mark.parametrize(
    ("entry", "share", "replicas"),
    [
        ({}, 1, (1, 1)),
        ({"gpus": 0}, 0, (1, 1)),
        ({"gpus": 0.4, "replicas": 2}, 0.4, (2, 2)),
        ({"replicas_per_gpu": 4}, 0.25, (1, 1)),
        ({"engine": "simulated"}, 0, (1, 1)),
        ({"engine": "simulated", "gpus": 0.5}, 0.5, (1, 1)),
        ({"autoscaling": {"min_replicas": 0, "max_replicas": 3}}, 1, (0, 3)),
        ({"replicas_per_gpu": "auto", "packing": 4, "memory": MEMORY}, 0.25, (4, 4)),
        ({"replicas_per_gpu": "auto", "packing": 4, "memory": MEMORY, "replicas": 6}, 0.25, (6, 6)),
    ],
)
def test_gpus_and_replicas_of_a_model(entry: dict[str, Any], share: float, replicas: tuple[int, int]) -> None:
    model = resolved(**entry).config.models[0]
    assert (gpu_share(model), replica_bounds(model)) == (share, replicas)


def test_auto_alone_has_a_packing() -> None:
    assert resolved(replicas_per_gpu=4).packings == {}
    assert resolved(replicas_per_gpu="auto", packing=2, memory=MEMORY).packings["some/model"].replicas_per_gpu == 2


def test_resolving_twice_changes_nothing() -> None:
    once = resolved(replicas_per_gpu="auto", packing=2, memory=MEMORY)
    assert resolve(once.config) == once


def test_what_is_still_open_is_not_read_as_a_number() -> None:
    model = ModelConfig.model_validate({"id": "some/model", "replicas_per_gpu": "auto"})
    for ask in (gpu_share, replica_bounds):
        with pytest.raises(ValueError, match="some/model is not resolved"):
            ask(model)
