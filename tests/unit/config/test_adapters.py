"""Adapters in a configuration: what may stand there, and what it becomes."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.config import vllm_args
from serve_app.config.errors import ConfigError
from serve_app.config.schema import ImageConfig, ModelConfig, ServiceConfig
from serve_app.engine import platform
from serve_app.planning.parts import for_engine
from serve_app.planning.resolve import resolve

ONE = {"id": "one", "source": "/adapters/one"}


def service(adapters: dict[str, Any], *others: dict[str, Any], **more: Any) -> ServiceConfig:
    return ServiceConfig.parse({"models": [{"id": "m", "gpus": 0, "adapters": adapters}, *others], **more})


@pytest.mark.parametrize(
    ("adapters", "said"),
    [
        ({}, "needs a directory or a list"),
        ({"list": [ONE, ONE]}, "two adapters of the list have the id 'one'"),
        ({"list": [ONE], "preload": ["two"]}, "preload names 'two', which is not in the list"),
        ({"list": [ONE], "max_rank": 12}, "models[0].adapters.max_rank"),
        ({"list": [{**ONE, "id": "m"}]}, "the name 'm' is used"),
        ({"list": [ONE], "directory": "here"}, "write it from / or ~"),
        ({"directory": "/a", "max_loaded": 1, "preload": ["a", "b"]}, "preload names 2 adapters, and max_loaded is 1"),
        ({"list": [{**ONE, "sampling": {"temprature": 1}}]}, "did you mean `temperature`?"),
    ],
)
def test_what_cannot_be_is_refused(adapters: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("[", r"\[").replace("?", r"\?")):
        service(adapters)


def test_two_models_cannot_list_one_adapter() -> None:
    with pytest.raises(ConfigError, match="the name 'one' is used by 'm' and again by 'n'"):
        service({"list": [ONE]}, {"id": "n", "adapters": {"list": [ONE]}})


def test_a_key_may_be_for_an_adapter() -> None:
    key = {"name": "k", "key": "env:K", "models": ["one"]}
    service({"list": [ONE]}, ingress={"keys": [key]})
    with pytest.raises(ConfigError, match="'two' is not served"):
        service({"list": [ONE]}, ingress={"keys": [{**key, "models": ["two"]}]})


def test_vllm_is_told_of_the_room_for_adapters_and_of_none_without() -> None:
    def told(entry: ModelConfig) -> dict[str, Any]:
        return vllm_args.arguments(entry, ImageConfig(), platform.engine_args(entry, None))

    with_adapters = told(resolve(service({"list": [ONE], "max_loaded": 3, "max_rank": 64})).config.models[0])
    assert (with_adapters["enable_lora"], with_adapters["max_loras"], with_adapters["max_lora_rank"]) == (True, 3, 64)
    assert "lm_head" not in with_adapters["lora_target_modules"]
    without = told(resolve(ServiceConfig.parse({"models": [{"id": "m", "gpus": 0}]})).config.models[0])
    assert not [name for name in without if "lora" in name]


def test_a_list_that_grows_replaces_no_replica() -> None:
    def part(*listed: dict[str, Any]) -> str:
        entry = service({"list": listed, "preload": ["one"]}).models[0]
        return for_engine(entry).model_dump_json()

    assert part(ONE) == part(ONE, {"id": "two", "source": "/adapters/two"})
    assert part(ONE) != part({**ONE, "source": "/elsewhere"})
