"""`serve-app environment`: what a cluster that is started by hand has to be started in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from serve_app.launching.environment import asked, environment
from serve_app.launching.node_environment import main
from tests.support.configs import application, written

MODEL = {"id": "m", "engine": "simulated", "drain_timeout_s": 7200}


def test_a_shell_gets_what_up_would_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "its folder"
    folder.mkdir()
    config = written(folder, application(MODEL, args={"ingress": {"max_connections": 1234}}))
    assert main([str(config)]) == 0
    script = capsys.readouterr().out
    done = subprocess.run(["env", "-i", "sh", "-c", f"{script}env"], capture_output=True, text=True, check=True)
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert found["RAY_SERVE_HAPROXY_MAXCONN"] == "1234" and found["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"] == "7260"
    assert Path(found["RAY_SERVE_HAPROXY_BINARY_PATH"]).name == "serve-app-haproxy"
    set_by_up = environment("launch", tmp_path)
    theirs = {"RAY_SERVE_HAPROXY_BINARY_PATH", *asked([]), "PWD", "SHLVL", "_"}
    assert {name: set_by_up.get(name) for name in found.keys() - theirs} == {
        name: found[name] for name in found.keys() - theirs
    }
    assert len(found) > 12


def test_a_configuration_that_is_wrong_sets_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = written(tmp_path, application(MODEL, args={"ingress": {"max_conections": 1234}}))
    assert main([str(config)]) == 1
    said = capsys.readouterr()
    assert not said.out and "max_connections" in said.err
