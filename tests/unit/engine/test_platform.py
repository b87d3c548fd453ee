"""What vLLM is told on CPUs and on shared GPUs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from serve_app.config import vllm_args
from serve_app.config.schema import ModelConfig, ServiceConfig
from serve_app.engine import platform
from serve_app.planning import gpus
from serve_app.planning.resolve import resolve
from tests.support import nvidia_smi
from tests.support.nvidia_smi import H100S


def model(**entry: object) -> ModelConfig:
    config = ServiceConfig.model_validate({"models": [{"id": "LiquidAI/LFM2-1.2B", **entry}]})
    return resolve(config).config.models[0]


def test_cpus_get_the_right_rotary_embedding_even_beside_a_users_compilation_config() -> None:
    ours = platform.engine_args(model(gpus=0), None)
    merged = vllm_args.merge(ours, {"compilation_config": {"mode": 0, "custom_ops": ["+rms_norm"]}})
    assert merged["compilation_config"] == {"mode": 0, "custom_ops": ["-rotary_embedding", "+rms_norm"]}


def test_the_gpu_path_keeps_vllms_kernels() -> None:
    assert "compilation_config" not in platform.engine_args(model(), 2**36)


def test_a_share_of_a_gpu_is_an_absolute_size_and_a_share_of_the_check() -> None:
    args = platform.engine_args(model(gpus=0.25), 80 * 2**30)
    assert args["gpu_memory_utilization"] == 0.23
    assert 0 < args["kv_cache_memory_bytes"] < 0.25 * 80 * 2**30


def test_whole_gpus_are_left_to_vllms_profiling() -> None:
    assert "kv_cache_memory_bytes" not in platform.engine_args(model(gpus=1), 80 * 2**30)
    assert platform.engine_args(model(gpus=2), 80 * 2**30)["tensor_parallel_size"] == 2


def test_graphs_break_on_gpus_alone_and_unless_the_variable_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_USE_BREAKABLE_CUDAGRAPH", raising=False)
    assert platform.environment(ModelConfig(id="m", gpus=0.25))["VLLM_USE_BREAKABLE_CUDAGRAPH"] == "1"
    assert "VLLM_USE_BREAKABLE_CUDAGRAPH" not in platform.environment(ModelConfig(id="m", gpus=0))
    monkeypatch.setenv("VLLM_USE_BREAKABLE_CUDAGRAPH", "0")
    assert platform.environment(ModelConfig(id="m", gpus=1))["VLLM_USE_BREAKABLE_CUDAGRAPH"] == "0"


def test_vllm_reads_the_variable_that_breaks_graphs() -> None:
    """The module alone: importing it as vLLM's own brings torch, and takes four seconds."""
    found = importlib.util.find_spec("vllm")
    assert found is not None and found.origin is not None
    spec = importlib.util.spec_from_file_location("vllm_envs", Path(found.origin).with_name("envs.py"))
    assert spec is not None and spec.loader is not None
    envs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(envs)
    assert "VLLM_USE_BREAKABLE_CUDAGRAPH" in envs.environment_variables


@pytest.mark.parametrize(
    ("given", "mps", "named"),
    [("1", True, H100S[1].uuid), ("1", False, None), (H100S[2].uuid[:9], False, H100S[2].uuid), ("MIG-1", True, None)],
)
def test_a_client_of_mps_names_the_gpu_that_ray_gave_it_by_uuid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, mps: bool, named: str | None
) -> None:
    nvidia_smi.put(tmp_path, monkeypatch)
    monkeypatch.setenv(gpus.VISIBLE, given)
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    if mps:
        (tmp_path / "control").touch()
    assert platform.devices() == ({} if named is None else {gpus.VISIBLE: named})


def test_a_gpu_that_is_not_there_is_named_and_without_nvidia_smi_it_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gpus.VISIBLE, "GPU-dead")
    nvidia_smi.put(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match="names 'GPU-dead'"):
        platform.devices()
    nvidia_smi.hide(tmp_path, monkeypatch)
    monkeypatch.setattr(gpus, "DRIVERS", (tmp_path,))
    assert platform.devices() == {}
