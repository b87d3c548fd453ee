"""The dashboards of batches, keys and adapters over the real Prometheus, which scrapes each replica by itself."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import openai

from tests.support.batches import create, end, lines
from tests.support.prometheus import prometheus, queries
from tests.support.service import Service

URL = "/v1/completions"


def test_prometheus_finds_every_replica_and_fills_the_dashboards(simulated: Service, tmp_path: Path) -> None:
    client = openai.OpenAI(base_url=f"{simulated.url}/v1", api_key="none", max_retries=5, timeout=30)
    asked = [{"model": "pair", "prompt": f"p{number}", "max_tokens": 4} for number in range(20)]
    end(client, create(client, lines(asked, URL), URL))
    for body in [*asked, {"model": "tuned", "prompt": "a"}]:
        httpx.post(simulated.url + URL, json=body).raise_for_status()
    discovery = {"url": f"{simulated.url}/metrics/targets", "refresh_interval": "1s"}
    with prometheus(tmp_path, [{"job_name": "lfm2", "http_sd_configs": [discovery]}]) as server:
        wanted = queries("batches") | queries("keys", key=".*") | queries("adapters", model="trio")
        assert not server.without_series(wanted, timeout_s=60)
        of_model = {
            model: {one["metric"]["replica"] for one in server.query(f'vllm:num_requests_running{{model="{model}"}}')}
            for model in ("pair", "trio")
        }
        assert {model: len(replicas) for model, replicas in of_model.items()} == {"pair": 2, "trio": 3}
        deadline = time.monotonic() + 30
        while ups := [one for one in server.page("targets")["activeTargets"] if one["health"] != "up"]:
            assert time.monotonic() < deadline, ups
            time.sleep(0.5)
