"""Upgrades of a running service: who is replaced, what goes on meanwhile, and what is told of one that cannot run."""

from __future__ import annotations

import concurrent.futures
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.faults.victim import UNCHECKED_DEPLOY
from tests.support.configs import application, written
from tests.support.service import Service, launch, replicas, running_service, stream_to_end

PAIR: dict[str, Any] = {"id": "pair", "engine": "simulated", "replicas": 2, "cpus": 0.1, "drain_timeout_s": 60}
OTHER: dict[str, Any] = {"id": "other", "engine": "simulated", "cpus": 0.1}
QUICK: dict[str, Any] = {"simulated": {"step_base_ms": 5}}
LONG_TOKENS = 900
"""At 10 ms each: longer than a deploy takes."""


def write(folder: Path, *models: dict[str, Any]) -> Path:
    service = application(*models, name="lfm2", route_prefix="/", args={"ingress": {"cpus": 0.1}})
    return written(folder, service, http_options={"host": "127.0.0.1"})


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(write(tmp_path_factory.mktemp("first"), PAIR), 120) as started:
        yield started


def deploy(service: Service, config: Path) -> subprocess.CompletedProcess[str]:
    port = service.url.rpartition(":")[2]
    command = [sys.executable, "-m", "serve_app", "deploy", str(config), "--port", port]
    return subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)


def ready(service: Service) -> dict[str, Any]:
    return dict(httpx.get(f"{service.url}/ready", timeout=10).json())


def wait(service: Service, state: str | None) -> dict[str, Any]:
    """What /ready says once the last deploy is in this state; None for one that runs."""
    deadline = time.monotonic() + 30
    while (told := ready(service)).get("deploy", {}).get("state") != state:
        assert time.monotonic() < deadline, told
        time.sleep(0.3)
    return told


def test_a_model_that_is_added_or_taken_away_restarts_no_other_and_cuts_no_stream(
    service: Service, tmp_path: Path
) -> None:
    before, ingress = replicas(service, "pair"), replicas(service, "ingress")
    assert len(before) == 2
    for models in ((PAIR, OTHER), (PAIR,)):
        begun = threading.Event()
        with concurrent.futures.ThreadPoolExecutor() as threads:
            open_streams = [threads.submit(stream_to_end, service.url, "pair", LONG_TOKENS, begun) for _ in range(4)]
            assert begun.wait(30)
            done = deploy(service, write(tmp_path, *models))
            assert done.returncode == 0, done.stdout + done.stderr
            assert [one.result() for one in open_streams] == [LONG_TOKENS] * 4
        assert replicas(service, "pair") == before
        assert set(wait(service, None)["models"]) == {one["id"] for one in models}
    assert not replicas(service, "ingress") & ingress, "the ingress was replaced, and finished its streams"


def test_new_replicas_come_before_old_ones_go(service: Service, tmp_path: Path) -> None:
    before, most, least, done = replicas(service, "pair"), 0, 2, threading.Event()

    def look() -> None:
        nonlocal most, least
        while not done.is_set():
            most = max(most, len(replicas(service, "pair")))
            least = min(least, ready(service)["models"]["pair"]["ready"])
            time.sleep(0.05)

    with concurrent.futures.ThreadPoolExecutor() as threads:
        looking = threads.submit(look)
        found = deploy(service, write(tmp_path, PAIR | QUICK))
        done.set()
        looking.result()
    assert found.returncode == 0, found.stdout + found.stderr
    assert most > 2 and least == 2, "the model never had fewer replicas than it should"
    assert not replicas(service, "pair") & before


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"engine": "vllm", "gpus": 0, "source": "/not/there"}, "there is no folder /not/there"),
        ({"no_such_key": 1}, "no_such_key: unknown key"),
    ],
    ids=["one that cannot start", "one that cannot be built"],
)
def test_a_version_that_cannot_run_leaves_the_old_one_as_it_is(
    service: Service, tmp_path: Path, entry: dict[str, Any], reason: str
) -> None:
    wait(service, None)
    before = replicas(service, "pair")
    config = write(tmp_path, PAIR | entry)
    assert deploy(service, config).returncode == 1, "it is refused before it gets there"
    told = unchecked(service, config)
    assert reason in told, "in one line, after what Ray has to say"
    shown = wait(service, "failed")
    assert reason in shown["deploy"]["reason"] and shown["models"]["pair"]["ready"] == 2
    assert replicas(service, "pair") >= before
    (backends,) = Path(launch(service).folder).glob("*/haproxy.cfg")
    assert "SERVE_REPLICA_lfm2-ingress" in backends.read_text(), "requests do not come by way of Serve's own proxy"
    assert stream_to_end(service.url, "pair", 20, threading.Event()) == 20
    assert deploy(service, write(tmp_path, PAIR | QUICK)).returncode == 0
    assert replicas(service, "pair") == before, "they were of this version all the time"
    assert "failed_starts" not in wait(service, None)["models"]["pair"]


def unchecked(service: Service, config: Path) -> str:
    """Deploy a configuration as it is, as `serve deploy` does: why it does not run."""
    command = [sys.executable, "-c", UNCHECKED_DEPLOY, service.url.rpartition(":")[2], str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]
