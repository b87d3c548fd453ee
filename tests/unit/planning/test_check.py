"""`serve-app check`: quick, readable, honest about its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from serve_app import cli
from serve_app.config import known_keys
from serve_app.config.api_keys import digest_of
from serve_app.config.file import load
from serve_app.planning import check, open_files
from tests.support import nvidia_smi
from tests.support.configs import CONFIGS, SHIPPED, report


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    path = tmp_path / "wrong.yaml"
    path.write_text("applications: [{import_path: 'serve_app.app:build', args: {models: [{id: a, gpu: 1}]}}]")
    return path


@pytest.fixture
def keyed(tmp_path: Path) -> Path:
    path = tmp_path / "keyed.yaml"
    args = {"models": [{"id": "LFM2-1.2B", "gpus": 0.05}], "ingress": {"api_keys": ["secret", "env:KEYS"]}}
    path.write_text(yaml.safe_dump({"applications": [{"import_path": "serve_app.app:build", "args": args}]}))
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_configurations_pass_and_fit(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(path), "--json"]) == 0
    for application in json.loads(capsys.readouterr().out)["applications"]:
        assert application["plan"]["models"]
        assert not application["plan"]["warnings"]


def test_the_report_names_what_would_run() -> None:
    text = report(CONFIGS / "lfm2-1gpu.yaml")
    for part in ("LiquidAI/LFM2-1.2B", "LiquidAI/LFM2-VL-1.6B", "temperature 0.3", "0.4"):
        assert part in text


def test_the_report_tells_what_autoscaling_aims_at(tmp_path: Path) -> None:
    scaling = {"min_replicas": 0, "max_replicas": 4, "target_load": 0.5, "tokens_per_s": 900, "upscale_delay_s": 3}
    args = {"models": [{"id": "LFM2-1.2B", "max_running": 64, "autoscaling": scaling}]}
    path = tmp_path / "scaled.yaml"
    path.write_text(yaml.safe_dump({"applications": [{"import_path": "serve_app.app:build", "args": args}]}))
    text = report(path)
    for part in ("0-4 replicas", "32 requests", "900 output tokens/s", "for 3 s", "for 120 s", "to zero"):
        assert part in text
    assert "TTFT" not in text


def test_the_report_tells_what_sleeping_replicas_hold(tmp_path: Path) -> None:
    scaling = {"min_replicas": 1, "max_replicas": 4, "standby": 2}
    models = [
        {"id": "LFM2-1.2B", "gpus": 0.25, "autoscaling": scaling},
        {"id": "sim", "engine": "simulated", "autoscaling": scaling},
    ]
    path = tmp_path / "standby.yaml"
    args = {"models": models}
    path.write_text(yaml.safe_dump({"applications": [{"import_path": "serve_app.app:build", "args": args}]}))
    text = " ".join(report(path).split())
    weights = load(path).applications[0].config.models[0].memory
    assert weights is not None
    assert f"in the host's memory, {2 * weights.weights_gib:.3g} GiB of it for all" in text
    assert "2 of them asleep, with all they hold, woken before others start" in text


def test_a_wrong_file_is_1_and_says_where(wrong: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(wrong)]) == 1
    assert "applications[0].args.models[0].gpu: unknown key; did you mean `gpus`?" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["chek"]])
def test_an_unknown_command_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["a.yaml", "--gpu-memory-gib", "0"], ["a.yaml", "--unknown"]])
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        check.main(arguments)
    assert caught.value.code == 2


def test_gpu_memory_given_goes_over_the_configurations(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(CONFIGS / "lfm2-moe.yaml")
    assert check.main([path, "--json", "--gpu-memory-gib", "24"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["applications"][0]["gpu_memory"]["gib"] == 24
    assert any("does not fit" in warning for warning in found["warnings"])
    assert check.main([path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["applications"][0]["gpu_memory"]["gib"] == 80


def test_what_does_not_fit_comes_with_a_way_out() -> None:
    told = check.report(load(CONFIGS / "lfm2-1gpu.yaml"), 8.0)
    assert "warning: LiquidAI/LFM2-1.2B does not fit" in told
    assert "raise gpus to 0.69 or more" in told


def packed(folder: Path, memory_gib: float | None) -> Path:
    path = folder / "packed.yaml"
    args = {"models": [{"id": "LFM2-1.2B", "replicas_per_gpu": "auto"}, {"id": "LFM2-350M", "gpus": 0.5}]}
    args |= {"gpu_memory_gib": memory_gib} if memory_gib else {}
    path.write_text(yaml.safe_dump({"applications": [{"import_path": "serve_app.app:build", "args": args}]}))
    return path


@pytest.mark.parametrize(
    ("memory_gib", "told"),
    [
        (80, "auto: 4; more than 4 on a GPU of 80 GiB"),
        (24, "auto: 2; 4 on a GPU of 24 GiB would leave each KV cache for only 34 sequences"),
        (10.5, "auto: 1; 2 on a GPU of 10.5 GiB would leave each KV cache for less than one full context"),
        (8, "auto: 1; 2 on a GPU of 8 GiB would leave each no KV cache"),
        (None, "auto: 4; more than 4 on a GPU of 80 GiB (assumed: gpu_memory_gib would tell)"),
    ],
)
def test_what_auto_came_to_is_told_with_its_reason(tmp_path: Path, memory_gib: float | None, told: str) -> None:
    lines = report(packed(tmp_path, memory_gib)).splitlines()
    assert [line for line in lines if " auto: " in line and told in line]
    assert sum(" auto: " in line for line in lines) == 1


def test_programs_are_told_what_auto_came_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main([str(packed(tmp_path, 24)), "--json"]) == 0
    small, other = json.loads(capsys.readouterr().out)["applications"][0]["plan"]["models"]
    assert small["packing"]["replicas_per_gpu"] == small["replicas_min"] == 2
    assert "34 sequences" in small["packing"]["reason"]
    assert other["packing"] is None


def test_a_service_open_to_the_network_is_told(keyed: Path) -> None:
    assert "anyone who reaches 0.0.0.0" in report(CONFIGS / "lfm2-1gpu.yaml")
    assert "anyone" not in report(keyed)
    assert "warning" not in report(CONFIGS / "demo.yaml")


def test_unchecked_engine_arguments_are_told(monkeypatch: pytest.MonkeyPatch, keyed: Path) -> None:
    monkeypatch.setattr(known_keys, "engine_arguments", frozenset)
    assert "vLLM is not installed here" in report(keyed)


def test_assumed_gpu_memory_is_said(monkeypatch: pytest.MonkeyPatch, keyed: Path) -> None:
    monkeypatch.setattr(check, "_installed_gpu_gib", lambda: None)
    assert "80 GiB each, assumed" in report(keyed)


def test_this_machines_gpu_is_asked(monkeypatch: pytest.MonkeyPatch, keyed: Path, tmp_path: Path) -> None:
    nvidia_smi.put(tmp_path, monkeypatch, "echo '0, GPU-1, 24576, 0'; echo '1, GPU-2, 49152, 0'")
    assert "24 GiB each, of this machine" in report(keyed)


def test_full_is_a_configuration_without_its_secrets(
    keyed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check.main([str(keyed), "--full"]) == 0
    text = capsys.readouterr().out
    assert "secret" not in text
    assert "env:KEYS" in text and digest_of("secret") in text
    assert "downscale_delay_s" in text or "max_queued" in text
    again = tmp_path / "again.yaml"
    again.write_text(text)
    report(again)


def test_keys_are_told_about_and_never_shown(keyed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, digest = report(keyed), digest_of("secret")
    assert "ingress.api_keys[0] is written out" in text and f"write {digest}" in text
    assert "ingress.api_keys[1]: there is no env:KEYS on this machine" in text
    check.main([str(keyed), "--json"])
    assert "secret" not in text + capsys.readouterr().out


def test_check_imports_neither_ray_nor_vllm_nor_torch() -> None:
    code = (
        "import sys; from serve_app.cli import main;"
        f"status = main(['check', {str(CONFIGS / 'lfm2-1gpu.yaml')!r}]);"
        "heavy = {'ray', 'vllm', 'torch', 'transformers'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else status)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


def test_a_limit_on_open_files_that_is_too_low_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_files, "hard_limit", lambda: 4_000)
    path = tmp_path / "service.yaml"
    for connections, told in ((50_000, True), (2_000, False)):
        args = {"models": [{"id": "LFM2-1.2B"}], "ingress": {"max_connections": connections}}
        path.write_text(yaml.safe_dump({"applications": [{"import_path": "serve_app.app:build", "args": args}]}))
        text = report(path)
        assert ("2,333 in place of 50,000 (ingress.max_connections)" in text) == told
