"""What a configuration names and this machine does not have is said before the start."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from serve_app.batch.run import engines as engines_module
from serve_app.batch.run.engines import DidNotStart, LocalEngines
from serve_app.config.file import load
from serve_app.config.schema import ServiceConfig
from serve_app.planning import check, machine
from tests.support.configs import AT, accepted, application, of_model, told, written


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
        accepted(written(tmp_path, application({"id": "some/model"} | entry)))


def test_traces_need_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = {"models": [{"id": "lfm2-demo"}], "tracing": {"endpoint": "http://collector:4318"}}
    accepted(written(tmp_path, application(args=args)))
    monkeypatch.setattr(machine, "EXPORTER", "opentelemetry.not_there.otlp")
    assert "needs opentelemetry.not_there: pip install" in told(tmp_path, application(args=args))[AT + "tracing"]


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
    args = {"batch": {"directory": directory}, "ingress": {"usage": {"directory": directory}}}
    found = told(tmp_path, application(args=args))
    assert found.keys() == {f"{AT}batch.directory", f"{AT}ingress.usage.directory"}


def test_keys_that_are_here_and_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY_KEYS", " , ")
    (tmp_path / "keys").write_text("\n")
    keys = ["env:EMPTY_KEYS", f"file:{tmp_path / 'keys'}", "env:NONE_SUCH", f"file:{tmp_path / 'none'}"]
    changes = {"args": {"ingress": {"api_keys": keys}}}
    found = told(tmp_path, application(**changes))
    assert found.keys() == {f"{AT}ingress.api_keys[{index}]" for index in (0, 1)}
    missing = machine.problems(load(written(tmp_path, application(**changes))), starting=True)
    assert len(missing) == 4, "where it is to start, one that is missing is as bad"
