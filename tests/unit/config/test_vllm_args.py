"""The table from the configuration to vLLM: what each key becomes, and what nobody may write under `engine_args`."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from serve_app.config import known_keys, vllm_args
from serve_app.config.declared import declared
from serve_app.config.schema import ImageConfig, ModelConfig
from serve_app.config.vllm_args import ARGUMENTS, INSTEAD, arguments, merge, of_configuration, structured_outputs
from tests.support.configs import accepted, application, of_model, written

with_vllm = pytest.mark.skipif(not known_keys.engine_arguments(), reason="vLLM is not installed")
IMAGES = ImageConfig(allowed_domains=("example.com",))
OF_EVERY_MODEL = {
    "model": "some/model",
    "served_model_name": ["some/model"],
    "max_num_seqs": 256,
    "override_generation_config": {},
}


def model(**entry: Any) -> ModelConfig:
    return ModelConfig.model_validate({"id": "some/model", **entry})


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({}, {}),
        ({"source": "/weights"}, {"model": "/weights"}),
        ({"aliases": ["chat"]}, {"served_model_name": ["some/model", "chat"]}),
        ({"max_running": 8}, {"max_num_seqs": 8}),
        ({"sampling": {"temperature": 0, "top_p": None}}, {"override_generation_config": {"temperature": 0.0}}),
        (
            {"tool_parser": "lfm2"},
            {
                "tool_call_parser": "lfm2",
                "enable_auto_tool_choice": True,
                "exclude_tools_when_tool_choice_none": True,
            },
        ),
        (
            {"reasoning_parser": "qwen3"},
            {"reasoning_parser": "qwen3", "structured_outputs_config": {"reasoning_parser": "qwen3"}},
        ),
        (
            {"kind": "vision", "images_per_prompt": 2},
            {"limit_mm_per_prompt": {"image": 2}, "allowed_media_domains": ["example.com"]},
        ),
        ({"kind": "embedding", "images_per_prompt": 2}, {}),
    ],
)
def test_what_each_key_becomes(entry: dict[str, Any], told: dict[str, Any]) -> None:
    assert of_configuration(model(**entry), IMAGES) == OF_EVERY_MODEL | told


def test_no_image_is_fetched_from_anywhere_unless_a_host_is_listed() -> None:
    assert of_configuration(model(kind="vision"), ImageConfig())["allowed_media_domains"] == []


def test_weights_in_the_package_are_a_path() -> None:
    path = of_configuration(model(source="package:demo/lfm2-demo"), IMAGES)["model"]
    assert path.startswith("/") and path.endswith("serve_app/demo/lfm2-demo")


def test_the_hardware_is_over_the_defaults_the_user_over_both_and_the_configuration_over_all() -> None:
    hardware = {"enforce_eager": True, "kv_cache_memory_bytes": 1, "compilation_config": {"custom_ops": ["-a"]}}
    users = {
        "kv_cache_memory_bytes": 2,
        "scheduling_policy": "fcfs",
        "compilation_config": {"mode": 0, "custom_ops": ["+b"]},
        "structured_outputs_config": {"backend": "auto", "reasoning_parser": "other"},
        "enable_log_requests": True,
    }
    told = arguments(model(engine_args=users, reasoning_parser="qwen3"), IMAGES, hardware)
    assert told == OF_EVERY_MODEL | {
        "enforce_eager": True,
        "kv_cache_memory_bytes": 2,
        "scheduling_policy": "fcfs",
        "disable_log_stats": False,
        "compilation_config": {"mode": 0, "custom_ops": ["-a", "+b"]},
        "structured_outputs_config": {
            "backend": "auto",
            "disable_any_whitespace": False,
            "reasoning_parser": "qwen3",
        },
        "reasoning_parser": "qwen3",
        "enable_log_requests": False,
        "disable_uvicorn_access_log": True,
    }


def test_the_users_arguments_win() -> None:
    assert merge({"enforce_eager": True}, {"enforce_eager": False}) == {"enforce_eager": False}


def test_structured_outputs_have_one_back_end_and_no_white_space_unless_it_cannot_be() -> None:
    assert structured_outputs({}) == {"backend": "xgrammar", "disable_any_whitespace": True}
    for backend, compact in (("guidance", True), ("outlines", False), ("auto", False)):
        users = {"structured_outputs_config": {"backend": backend}}
        assert merge({"structured_outputs_config": structured_outputs(users)}, users)["structured_outputs_config"] == {
            "backend": backend,
            "disable_any_whitespace": compact,
        }


@pytest.mark.parametrize("name", INSTEAD)
def test_what_the_table_decides_is_refused_under_engine_args(name: str) -> None:
    assert vllm_args.problems({name: 1}) == {(name,): f"is set by the service: use {INSTEAD[name]}"}


@pytest.mark.parametrize("one", ARGUMENTS, ids=lambda one: one.name)
def test_a_row_names_a_key_of_the_configuration(one: vllm_args.Argument) -> None:
    if one.key is not None:
        attrgetter(one.key.removeprefix("images."))(IMAGES if one.key.startswith("images.") else model())


@with_vllm
def test_vllm_has_every_argument_of_the_table() -> None:
    server = declared("vllm", "entrypoints/launchers/cli_args.py", "FrontendArgs")
    known = known_keys.engine_arguments() | server.keys()
    named = {one.name for one in ARGUMENTS} | vllm_args.SERVER.keys() | vllm_args.DEFAULTS.keys()
    assert named <= known


@pytest.mark.parametrize(
    ("argument", "instead"),
    [
        ("model", "id"),
        ("served_model_name", "aliases"),
        ("max_num_seqs", "max_running"),
        ("tensor_parallel_size", "gpus"),
    ],
)
def test_engine_arguments_the_service_sets_are_refused(tmp_path: Path, argument: str, instead: str) -> None:
    found = of_model(tmp_path, engine_args={argument: 1})
    assert instead in found[f"engine_args.{argument}"]


@with_vllm
def test_engine_arguments_vllm_does_not_know_are_refused(tmp_path: Path) -> None:
    found = of_model(tmp_path, engine_args={"max_model_length": 8, "dtype": "half"})
    assert found.keys() == {"engine_args.max_model_length"}
    assert "`max_model_len`" in found["engine_args.max_model_length"]


def test_engine_arguments_are_not_checked_without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_keys, "engine_arguments", frozenset)
    model = ModelConfig.model_validate({"id": "other", "engine_args": {"anything": 1}})
    assert model.engine_args == {"anything": 1}


@with_vllm
@pytest.mark.parametrize(
    ("argument", "value", "where", "text"),
    [
        ("max_model_len", "32k", "max_model_len", "should be a whole number, not '32k'"),
        ("max_model_len", True, "max_model_len", "should be a whole number, not True"),
        ("dtype", "bf16", "dtype", "should be one of auto, half, float16, bfloat16, float, float32, not 'bf16'"),
        ("enforce_eager", "no", "enforce_eager", "should be true or false, not 'no'"),
        ("gpu_memory_utilization", 1.5, "gpu_memory_utilization", "should be at most 1, not 1.5"),
        ("structured_outputs_config", "auto", "structured_outputs_config", "should be a mapping, not 'auto'"),
        (
            "structured_outputs_config",
            {"backnd": "auto"},
            "structured_outputs_config.backnd",
            "unknown key; did you mean `backend`?",
        ),
        ("structured_outputs_config", {"backend": "x"}, "structured_outputs_config.backend", "one of auto, xgrammar"),
        ("compilation_config", {"custom_ops": "all"}, "compilation_config.custom_ops", "should be a list, not 'all'"),
        ("attention_backend", "FLASH", "attention_backend", "should be one of FLASH_ATTN, "),
        ("mamba_cache_mode", 17, "mamba_cache_mode", "one of align, none"),
        ("media_io_kwargs", {"image": 3}, "media_io_kwargs.image", "should be a mapping, not 3"),
        ("hf_token", "hf_secret", "hf_token", "set HF_TOKEN in the environment"),
    ],
)
def test_engine_arguments_of_the_wrong_kind(tmp_path: Path, argument: str, value: Any, where: str, text: str) -> None:
    found = of_model(tmp_path, engine_args={argument: value})
    assert found.keys() == {f"engine_args.{where}"}
    assert text in found[f"engine_args.{where}"] and "hf_secret" not in str(found)


@with_vllm
def test_engine_arguments_of_the_right_kind(tmp_path: Path) -> None:
    arguments = {
        "max_model_len": None,
        "dtype": "half",
        "gpu_memory_utilization": 1,
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        "compilation_config": {"custom_ops": ["-rotary_embedding"], "cudagraph_mode": "FULL"},
        "attention_backend": "flash_attn",
        "scheduler_cls": "a.b",
        "hf_overrides": {"anything": [1]},
        "hf_token": True,
        "load_format": "dummy",
        "enable_prefix_caching": False,
        "speculative_config": {"method": "ngram"},
        "media_io_kwargs": {"image": {"rgba_background_color": [0, 0, 0]}},
    }
    accepted(written(tmp_path, application({"id": "some/model", "engine_args": arguments})))


def test_what_the_plan_counts_with_is_checked_without_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_keys, "engine_arguments", frozenset)
    arguments = {"kv_cache_memory_bytes": "1g", "max_model_len": "32k", "gpu_memory_utilization": "half", "other": {}}
    found = of_model(tmp_path, engine_args=arguments)
    assert found.keys() == {f"engine_args.{name}" for name in arguments if name != "other"}


@with_vllm
@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("tool_parser", "lfm", "vLLM has no 'lfm'; did you mean `lfm2`?"),
        ("tool_parser", "", "vLLM has no ''; it has "),
        ("reasoning_parser", "deepseek_r2", "did you mean `deepseek_r1`?"),
    ],
)
def test_parsers_vllm_does_not_have(tmp_path: Path, key: str, value: str, text: str) -> None:
    assert text in of_model(tmp_path, **{key: value})[key]
