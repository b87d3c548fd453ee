"""What could not start is said before the start: where it stands in the file, and what would be right."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.batch.run import engines as engines_module
from serve_app.batch.run.engines import DidNotStart, LocalEngines
from serve_app.config import known_keys, names
from serve_app.config.errors import ConfigError
from serve_app.config.file import load
from serve_app.config.schema import ServiceConfig
from serve_app.planning import check, machine

with_vllm = pytest.mark.skipif(not known_keys.engine_arguments(), reason="vLLM is not installed")
DEMO = {"id": "lfm2-demo", "gpus": 0}
AT = "applications[0].args."


def application(*models: dict[str, Any], **changes: Any) -> dict[str, Any]:
    args = {"models": list(models) or [DEMO], **changes.pop("args", {})}
    return {"name": "a", "import_path": "serve_app.app:build", "args": args, **changes}


def written(folder: Path, *applications: dict[str, Any], **top: Any) -> Path:
    path = folder / "service.yaml"
    path.write_text(yaml.safe_dump({"applications": list(applications), **top}))
    return path


def told(folder: Path, *applications: dict[str, Any], **top: Any) -> dict[str, str]:
    """What `check` says, by place."""
    with pytest.raises(ConfigError) as caught:
        check.check_file(written(folder, *applications, **top))
    return dict(str(problem).split(": ", 1) for problem in caught.value.problems)


def of_model(folder: Path, **entry: Any) -> dict[str, str]:
    found = told(folder, application({"id": "some/model"} | entry))
    return {where.removeprefix(f"{AT}models[0]."): text for where, text in found.items()}


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\0", " a", "a ", "x" * 1000])
def test_names_that_metrics_or_logs_cannot_carry(tmp_path: Path, name: str) -> None:
    assert of_model(tmp_path, id=name).keys() == {"id"}
    assert of_model(tmp_path, aliases=["fine", name]).keys() == {"aliases[1]"}


@pytest.mark.parametrize("name", ["modèle", "模型"])
def test_ids_that_ray_serve_cannot_carry(tmp_path: Path, name: str) -> None:
    assert "ASCII" in of_model(tmp_path, id=name)["id"]
    check.check_file(written(tmp_path, application({"id": "some/model", "aliases": [name]})))


@pytest.mark.parametrize("name", ["LiquidAI/LFM2-1.2B", "a b", "a:b@c+d", "a_b.c-d", "x" * 160])
def test_names_that_can_be_served(name: str) -> None:
    assert names.model_name(name) == name
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", names.deployment(name))


@pytest.mark.parametrize(
    ("ids", "taken"),
    [
        (["ingress"], "the service's ingress"),
        (["batch-api"], "the service's Batch API"),
        (["/v1/batches"], "the service's Batch API"),
        (["a/b", "a--b"], "that of 'a/b'"),
        (["a b", "c", "a:b"], "that of 'a b'"),
    ],
)
def test_two_of_one_deployment(tmp_path: Path, ids: list[str], taken: str) -> None:
    found = told(tmp_path, application(*({"id": one} for one in ids)))
    assert found.keys() == {f"{AT}models"} and taken in found[f"{AT}models"]


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
        ("max_lora_rank", 17, "max_lora_rank", "one of 1, 8, 16"),
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
    check.check_file(written(tmp_path, application({"id": "some/model", "engine_args": arguments})))


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


@with_vllm
def test_parsers_are_those_of_vllms_registries() -> None:
    assert {"lfm2", "pythonic", "hermes"} <= known_keys.parsers("tool_parser")
    assert {"deepseek_r1", "qwen3"} <= known_keys.parsers("reasoning_parser")


def weights(folder: Path, *files: str) -> str:
    for file in files:
        (folder / file).touch()
    return str(folder)


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    for source, text in (
        (str(tmp_path / "none"), "there is no folder"),
        ("./none", "there is no folder none on this machine"),
        ("package:demo/none", "there is no folder"),
        ("~/model", "write the path from /"),
        ("a/b/c", "neither a folder here nor a repository"),
    ):
        assert text in of_model(tmp_path, source=source)["source"]
    assert "has no config.json" in of_model(tmp_path, source=str(tmp_path))["source"]
    assert "has no weights" in of_model(tmp_path, source=weights(tmp_path, "config.json"))["source"]
    assert "there is no folder" in of_model(tmp_path, id=str(tmp_path / "none"))["id"]


def test_sources_that_may_be_there(tmp_path: Path) -> None:
    folder = weights(tmp_path, "config.json")
    for entry in (
        {"source": "owner/name"},
        {"source": "s3://bucket/name"},
        {"source": folder, "engine_args": {"load_format": "dummy"}},
        {"source": "/none", "engine": "simulated"},
        {"source": weights(tmp_path, "model.safetensors")},
    ):
        check.check_file(written(tmp_path, application({"id": "some/model"} | entry)))


def test_offline_engines_are_not_started_without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(engines_module, "offline", lambda: None)
    engines = LocalEngines(ServiceConfig.parse({"models": [{"id": "some/model", "source": "/none"}]}))
    with pytest.raises(DidNotStart, match="some/model: there is no folder /none on this machine"):
        engines.start()


def test_a_configuration_for_other_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, application({"id": "some/model", "source": "/none"}))
    assert check.main([str(path)]) == 1
    assert check.main([str(path), "--elsewhere"]) == 0
    manifest = tmp_path / "service"
    manifest.write_text(yaml.safe_dump({"kind": "RayService", "spec": {"serveConfigV2": path.read_text()}}))
    assert check.main([str(manifest)]) == 0


@pytest.mark.parametrize("where", ["file", "file/below", "~nobody-here/data", "nul\0"])
def test_batch_directories_that_cannot_be(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    directory = where if where.startswith("~") else str(tmp_path / where)
    assert told(tmp_path, application(args={"batch": {"directory": directory}})).keys() == {f"{AT}batch.directory"}


def test_keys_that_are_here_and_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY_KEYS", " , ")
    (tmp_path / "keys").write_text("\n")
    keys = ["env:EMPTY_KEYS", f"file:{tmp_path / 'keys'}", "env:NONE_SUCH", f"file:{tmp_path / 'none'}"]
    changes = {"args": {"ingress": {"api_keys": keys}}}
    found = told(tmp_path, application(**changes))
    assert found.keys() == {f"{AT}ingress.api_keys[{index}]" for index in (0, 1)}
    missing = machine.problems(load(written(tmp_path, application(**changes))), starting=True)
    assert len(missing) == 4, "where it is to start, one that is missing is as bad"


@pytest.mark.parametrize(
    ("top", "where", "text"),
    [
        ({"http_options": {"port": 0}}, "http_options.port", "should be from 1 to 65535, not 0"),
        ({"http_options": {"port": 65536}}, "http_options.port", "should be from 1 to 65535"),
        ({"http_options": {"port": "-1"}}, "http_options.port", "should be from 1 to 65535"),
        ({"http_options": {"port": "http"}}, "http_options.port", "should be a whole number, not 'http'"),
        ({"http_options": {"port": 80.5}}, "http_options.port", "should be a whole number, not 80.5"),
        ({"http_options": {"host": "http://a"}}, "http_options.host", "should be an address"),
        ({"http_options": {"host": ""}}, "http_options.host", "should be an address"),
        ({"http_options": {"host": 1}}, "http_options.host", "should be text, not 1"),
        ({"http_options": {"request_timeout_s": -1}}, "http_options.request_timeout_s", "should be at least 0"),
        ({"http_options": {"root_path": "a"}}, "http_options.root_path", "should begin with /"),
        ({"http_options": {"port": 81}, "grpc_options": {"port": 81}}, "grpc_options.port", "http_options.port too"),
        ({"logging_config": {"log_levl": "INFO"}}, "logging_config.log_levl", "did you mean `log_level`?"),
    ],
)
def test_ray_serves_options(tmp_path: Path, top: dict[str, Any], where: str, text: str) -> None:
    found = told(tmp_path, application(), **top)
    assert found.keys() == {where} and text in found[where]


def test_numbers_that_ray_reads_from_text(tmp_path: Path) -> None:
    check.check_file(written(tmp_path, application(), http_options={"port": "8123", "host": "::1"}))


@pytest.mark.parametrize(
    ("second", "where"),
    [
        ({"name": "a", "import_path": "o:x", "route_prefix": "/b"}, "name"),
        ({"name": "b", "import_path": "o:x", "route_prefix": "/"}, "route_prefix"),
        ({"name": "b", "import_path": "o:x"}, "route_prefix"),
        ({"name": "b c", "import_path": "o:x", "route_prefix": "/b"}, "name"),
        ({"name": "b" * 61, "import_path": "o:x", "route_prefix": "/b"}, "name"),
        (application(name="b", route_prefix="/b"), "import_path"),
        ({"name": "b", "import_path": "o:x", "route_prefix": "/b", "runtime_env": "x"}, "runtime_env"),
    ],
)
def test_two_applications_that_cannot_be_beside_each_other(tmp_path: Path, second: dict[str, Any], where: str) -> None:
    assert told(tmp_path, application(), second).keys() == {f"applications[1].{where}"}


def test_our_routes_begin_at_the_top(tmp_path: Path) -> None:
    assert told(tmp_path, application(route_prefix="/llm")).keys() == {"applications[0].route_prefix"}


@pytest.mark.parametrize(
    ("override", "where", "text"),
    [
        ({"num_replicas": 0}, "num_replicas", "should be at least 1"),
        ({"num_replicas": -1}, "num_replicas", "should be a whole number"),
        ({"num_replicas": "auto"}, "num_replicas", "or use `autoscaling`"),
        ({"name": "scaled", "num_replicas": 2}, "num_replicas", "keep one"),
        ({"name": "batch-api", "num_replicas": 2}, "num_replicas", "should be 1"),
        ({"name": "lfm2-dem"}, "name", "did you mean `lfm2-demo`?"),
        ({"name": "some/model"}, "name", "did you mean `some--model`?"),
        ({"name": "ingress"}, "name", "overridden twice"),
        ({"autoscaling_config": {"max_replicas": 2}}, "autoscaling_config", "the model's `autoscaling`"),
        ({"ray_actor_options": {"num_gpus": 1}}, "ray_actor_options.num_gpus", "use `gpus`"),
        ({"user_config": {}}, "user_config", "take no user_config"),
        ({"max_ongoing_requests": "x"}, "max_ongoing_requests", "should be a whole number"),
        ({"num_replica": 1}, "num_replica", "did you mean `num_replicas`?"),
    ],
)
def test_overrides_that_would_not_do(tmp_path: Path, override: dict[str, Any], where: str, text: str) -> None:
    models = [DEMO, {"id": "some/model"}, {"id": "scaled", "autoscaling": {"max_replicas": 2}}]
    overrides = [{"name": "ingress"}, {"name": "lfm2-demo", **override}]
    changed = application(*models, deployments=overrides, args={"batch": {"directory": str(tmp_path)}})
    found = told(tmp_path, changed)
    assert found.keys() == {f"applications[0].deployments[1].{where}"} and text in next(iter(found.values()))


def test_the_plan_counts_overrides(tmp_path: Path) -> None:
    overrides = [{"name": "lfm2-demo", "num_replicas": 3}, {"name": "ingress", "num_replicas": 4}]
    file = load(written(tmp_path, application(deployments=overrides)))
    (plan,) = (one["plan"] for one in json.loads(check.as_json(file, None))["applications"])
    assert plan["models"][0]["replicas_min"] == plan["models"][0]["replicas_max"] == 3
    assert plan["cpus_min"] == 3 * 1.0 + 4 * 0.5
