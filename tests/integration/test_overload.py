"""More than a service takes, beside many idle connections: each request is answered or refused with a reason."""

from __future__ import annotations

import asyncio
import re
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

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
        - id: slow
          engine: simulated
          cpus: 0.1
          max_running: 4
          max_queued: 0
          simulated: {step_base_ms: 20}  # 8 requests/s of 25 tokens
      ingress: {cpus: 0.1, wait_timeout_s: 2}
"""
IDLE, REQUESTS, PER_S = 300, 300, 60
BODY = {"model": "slow", "prompt": "a", "max_tokens": 25, "ignore_eos": True}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    config: Path = tmp_path_factory.mktemp("overload") / "overload.yaml"
    config.write_text(CONFIG)
    with running_service(config, start_timeout_s=120) as started:
        yield started


async def _send(url: str) -> tuple[list[httpx.Response], list[int]]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        probes: list[int] = []

        async def probe() -> None:
            while True:
                probes.append((await client.get("/ready")).status_code)
                await asyncio.sleep(0.5)

        probing = asyncio.create_task(probe())
        sent = []
        for _ in range(REQUESTS):
            sent.append(asyncio.create_task(client.post("/v1/completions", json=BODY)))
            await asyncio.sleep(1 / PER_S)
        answers = await asyncio.gather(*sent)
        probing.cancel()
    return answers, probes


def test_every_request_is_answered_or_refused_with_a_reason(service: Service) -> None:
    at = urlsplit(service.url)
    idle = [socket.create_connection((at.hostname, at.port), timeout=10) for _ in range(IDLE)]
    try:
        answers, probes = asyncio.run(_send(service.url))
    finally:
        for one in idle:
            one.close()
    statuses = Counter(one.status_code for one in answers)
    assert set(statuses) == {200, 429} and sum(statuses.values()) == REQUESTS
    assert set(probes) == {200} and len(probes) > 5
    for one in answers:
        if one.status_code == 429:
            error = one.json()["error"]
            assert error["code"] == "overloaded" and "'slow'" in error["message"]
            assert 1 <= int(one.headers["retry-after"]) <= 60
    text = httpx.get(f"{service.url}/metrics", timeout=10).text
    counted = re.findall(r'serve_app_refused_sequences_total{model="slow",reason="[a-z ]+"} ([\d.]+)', text)
    assert sum(map(float, counted)) == statuses[429]
