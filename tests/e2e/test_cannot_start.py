"""A replica that can never start is told once, soon, with its reason; one that is to join others stops none of them."""

from __future__ import annotations

import concurrent.futures
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

import serve_app
from serve_app.launching.environment import free_ports
from serve_app.launching.events import Ended, read
from serve_app.replica.failed_starts import QUICK
from tests.support.configs import application, written
from tests.support.service import running_service

DEMO = Path(serve_app.__file__).parent / "demo" / "lfm2-demo"


def write(folder: Path, **entry: Any) -> Path:
    """A configuration of one model on the CPU."""
    model = {"id": "m", "gpus": 0, "cpus": 0.1, "engine_args": {"max_model_len": 2048}} | entry
    return written(folder, application(model, name="lfm2", route_prefix="/", args={"ingress": {"cpus": 0.1}}))


def test_a_launch_ends_with_the_reason_at_the_first_start_that_no_other_can_better(tmp_path: Path) -> None:
    arguments = {"max_model_len": 2048, "kv_cache_memory_bytes": 100_000}
    config = write(tmp_path, source=str(DEMO), engine_args=arguments)
    events = tmp_path / "events"
    command = [sys.executable, "-m", "serve_app", "up", str(config), "--port", str(free_ports(1)[0])]
    done = subprocess.run([*command, "--events", str(events)], capture_output=True, text=True, timeout=480, check=False)
    assert done.returncode == 1, done.stdout
    [ended] = [one for one in read(events) if isinstance(one, Ended)]
    assert ended.reason.startswith("m: "), ended.reason
    assert "its KV cache holds less than one full context" in ended.reason and "\n" not in ended.reason


def test_one_that_cannot_join_the_others_is_seen_everywhere_and_stops_none(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(DEMO, weights)
    scaling = {"min_replicas": 1, "max_replicas": 2, "upscale_delay_s": 0.5, "downscale_delay_s": 600}
    config = write(tmp_path, source=str(weights), max_running=1, autoscaling=scaling)
    with running_service(config, 240) as service, concurrent.futures.ThreadPoolExecutor(3) as people:
        shutil.rmtree(weights)
        answers = [people.submit(ask, service.url) for _ in range(3)]
        known = wait_for_failure(service.url)
        assert known["permanent"] and f"there is no folder {weights}" in known["reason"]
        assert httpx.get(f"{service.url}/ready").json()["models"]["m"]["failed_starts"] >= 1
        metrics = httpx.get(f"{service.url}/metrics").text
        assert 'serve_app_failed_starts{model="m",permanent="true",reason=' in metrics
        time.sleep(20)
        assert wait_for_failure(service.url)["count"] <= QUICK + 1, "it is not tried again without a pause"
        assert [answer.result() for answer in answers] == [200] * 3
        assert httpx.get(f"{service.url}/ready").status_code == 200


def ask(url: str) -> int:
    body = {"model": "m", "prompt": "The", "max_tokens": 1500, "ignore_eos": True}
    return httpx.post(f"{url}/v1/completions", json=body, timeout=300).status_code


def wait_for_failure(url: str) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        known = httpx.get(f"{url}/autoscaling").json()["models"]["m"]
        if "failed_starts" in known:
            return dict(known["failed_starts"])
        time.sleep(0.5)
    raise TimeoutError("no replica failed its start")
