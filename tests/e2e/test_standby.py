"""A demo model that sleeps and wakes answers as before."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from tests.support.service import running_service

CONFIG = """\
applications:
  - name: lfm2
    route_prefix: /
    import_path: serve_app.app:build
    args:
      models:
        - {id: lfm2-demo, cpus: 0.1, autoscaling: {min_replicas: 0, max_replicas: 1, standby: 1, downscale_delay_s: 1}}
      ingress: {cpus: 0.1}
"""


def test_a_model_answers_after_its_sleep_as_before_it(tmp_path: Path) -> None:
    config = tmp_path / "standby.yaml"
    config.write_text(CONFIG)
    with running_service(config, start_timeout_s=300) as service:
        answers = []
        for _ in range(2):
            deadline = time.monotonic() + 60
            while not _asleep(service.url):
                assert time.monotonic() < deadline, "it does not sleep"
                time.sleep(0.3)
            question = {"messages": [{"role": "user", "content": "What is this service?"}], "temperature": 0}
            answer = httpx.post(
                f"{service.url}/v1/chat/completions", json={"model": "lfm2-demo", **question}, timeout=60
            )
            answers.append(answer.json()["choices"][0]["message"]["content"])
        assert answers[0] == answers[1] and "LFM2 on Ray Serve" in answers[0]


def _asleep(url: str) -> bool:
    replicas = httpx.get(f"{url}/autoscaling", timeout=10).json()["models"]["lfm2-demo"].get("replicas", {})
    return bool(replicas.get("asleep") == 1 and replicas.get("awake") == 0)
