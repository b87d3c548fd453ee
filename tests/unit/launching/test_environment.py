"""The environment in which Ray and Serve start."""

import contextlib
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.config.schema import IngressConfig, ServiceConfig
from serve_app.launching.environment import environment


def test_two_launches_share_no_port_and_no_path(tmp_path: Path) -> None:
    for name in "12":
        (tmp_path / name).mkdir()
    one = environment("1", tmp_path / "1")
    with contextlib.ExitStack() as stack:
        for port in (one[name] for name in one if name.startswith("RAY_SERVE_HAPROXY_") and name.endswith("_PORT")):
            stack.enter_context(socket.create_server(("127.0.0.1", int(port))))
        two = environment("2", tmp_path / "2")
    names = [
        name for name in one if name.startswith("RAY_SERVE_HAPROXY_") and name.endswith(("_PORT", "_PATH", "_LOC"))
    ]
    assert {"RAY_SERVE_HAPROXY_STATS_PORT", "RAY_SERVE_HAPROXY_SOCKET_PATH"} <= set(names)
    ports = [each[name] for each in (one, two) for name in names if name.endswith("_PORT")]
    assert len(ports) == len(set(ports))
    assert all(two[name].startswith(str(tmp_path / "2")) for name in names if not name.endswith("_PORT"))


def test_streams_outlive_reloads_and_nothing_phones_home(tmp_path: Path) -> None:
    values = environment("1", tmp_path)
    assert int(values["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"]) >= 3600
    assert values["RAY_SERVE_ENABLE_HA_PROXY"] == values["VLLM_NO_USAGE_STATS"] == values["DO_NOT_TRACK"] == "1"
    assert values["RAY_USAGE_STATS_ENABLED"] == "0"
    assert values["SERVE_APP_LAUNCH_ID"] == "1"


def test_what_ray_writes_is_in_the_launchs_own_folder(tmp_path: Path) -> None:
    assert environment("1", tmp_path)["RAY_TMPDIR"] == str(tmp_path)


def test_ray_serve_reads_what_is_set_for_a_busy_machine(tmp_path: Path) -> None:
    code = (
        "from ray.serve._private import constants as c;"
        "print(c.PROXY_READY_CHECK_TIMEOUT_S, c.PROXY_HEALTH_CHECK_TIMEOUT_S, c.RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S)"
    )
    values = environment("1", tmp_path)
    run = subprocess.run([sys.executable, "-c", code], env=values, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["120.0", "30.0", "120"]


def test_what_the_user_sets_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_HAPROXY_STATS_PORT", "18404")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    values = environment("1", tmp_path)
    assert values["RAY_SERVE_HAPROXY_STATS_PORT"] == "18404"
    assert values["RAY_AUTH_MODE"] == "disabled"


def test_serve_is_told_what_the_configuration_asks_of_it(tmp_path: Path) -> None:
    model = {"id": "a", "engine": "simulated", "drain_timeout_s": 7200}
    config = ServiceConfig.model_validate({"models": [model], "ingress": {"max_connections": 1234}})
    values = environment("1", tmp_path, [config])
    assert values["RAY_SERVE_HAPROXY_MAXCONN"] == "1234"
    assert int(values["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"]) > 7200
    assert environment("1", tmp_path)["RAY_SERVE_HAPROXY_MAXCONN"] == str(IngressConfig().max_connections)
