"""What is read from the source of vLLM and Ray Serve is what they have."""

from __future__ import annotations

import pytest

from serve_app.config import known_keys, vllm_args

with_vllm = pytest.mark.skipif(not known_keys.engine_arguments(), reason="vLLM is not installed")


@with_vllm
def test_parsers_are_those_of_vllms_registries() -> None:
    assert {"lfm2", "pythonic", "hermes"} <= known_keys.parsers("tool_parser")
    assert {"deepseek_r1", "qwen3"} <= known_keys.parsers("reasoning_parser")


@with_vllm
def test_vllms_argument_names_are_found_in_its_source() -> None:
    known = known_keys.engine_arguments()
    assert {"max_model_len", "enforce_eager", "kv_cache_memory_bytes", "enable_log_requests"} <= known
    assert vllm_args.INSTEAD.keys() - {"tool_call_parser", "enable_auto_tool_choice"} <= known


@pytest.mark.parametrize(
    "name", ["ServeDeploySchema", "ServeApplicationSchema", "HTTPOptionsSchema", "DeploymentSchema"]
)
def test_ray_serves_keys_are_those_of_its_schemas(name: str) -> None:
    schema = pytest.importorskip("ray.serve.schema")
    assert known_keys.serve_keys(name) == set(getattr(schema, name).model_fields)
