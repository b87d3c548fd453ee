"""Sleeping replicas on real Ray Serve with simulated engines: a model that idles asleep, a spike that wakes them."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.service import Service, running_service

CONFIG = """\
applications:
  - name: lfm2
    route_prefix: /
    import_path: serve_app.app:build
    args:
      models:
        - id: idle
          engine: simulated
          cpus: 0.1
          autoscaling: {min_replicas: 0, max_replicas: 1, standby: 1, downscale_delay_s: 2}
        - id: busy
          engine: simulated
          cpus: 0.1
          max_running: 4
          max_queued: 0
          simulated: {step_base_ms: 50, startup_s: 2}
          autoscaling: {min_replicas: 1, max_replicas: 4, standby: 2, downscale_delay_s: 2}
      ingress: {cpus: 0.1}
"""
PATIENCE_S = 60


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    config: Path = tmp_path_factory.mktemp("standby") / "standby.yaml"
    config.write_text(CONFIG)
    with running_service(config, start_timeout_s=120) as started:
        yield started


def counts(service: Service, model: str) -> dict[str, Any]:
    page = httpx.get(f"{service.url}/autoscaling", timeout=10).json()
    return dict(page["models"][model].get("replicas", {}))


def until(service: Service, model: str, **wanted: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = counts(service, model)
        if all(found.get(key) == value for key, value in wanted.items()):
            return
        assert time.monotonic() < deadline, f"{model}: {found}, not {wanted}"
        time.sleep(0.3)


def ask(service: Service, model: str, tokens: int = 4) -> int:
    body = {"model": model, "prompt": "a", "max_tokens": tokens, "ignore_eos": True}
    return httpx.post(f"{service.url}/v1/completions", json=body, timeout=60).status_code


def test_an_idle_model_sleeps_answers_and_sleeps_again(service: Service) -> None:
    until(service, "idle", ready=1, asleep=1, awake=0)
    assert httpx.get(f"{service.url}/ready", timeout=10).status_code == 200
    assert ask(service, "idle") == 200
    until(service, "idle", asleep=1, awake=0)
    assert ask(service, "idle") == 200


def test_a_spike_wakes_those_that_sleep_then_starts_others(service: Service) -> None:
    until(service, "busy", ready=3, asleep=2, awake=1)
    with concurrent.futures.ThreadPoolExecutor(14) as threads:
        answers = [threads.submit(ask, service, "busy", 200) for _ in range(14)]
        until(service, "busy", awake=4, asleep=0, ready=4)
        assert {one.result() for one in answers} == {200}
    until(service, "busy", ready=3, asleep=2, awake=1)
    assert ask(service, "busy") == 200
