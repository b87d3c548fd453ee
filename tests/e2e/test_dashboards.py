"""The dashboards of models and nodes over the real Prometheus, vLLM's own metrics and Ray's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.conftest import TEXT
from tests.support.prometheus import prometheus, queries
from tests.support.service import Service, launch
from tools.dashboards import names

OF_GPUS = (names.GPU_BUSY, names.GPU_MEMORY_MIB, names.GPU_MEMORY_FREE_MIB)
"""Ray has them where there is one; that it names them so is a unit test's."""


def test_every_query_of_every_panel_returns_a_series(service: Service, http: httpx.Client, tmp_path: Path) -> None:
    jobs: list[dict[str, Any]] = [
        {"job_name": "lfm2", "static_configs": [{"targets": [service.url.removeprefix("http://")]}]},
        {"job_name": "ray", "file_sd_configs": [{"files": [_nodes(service)]}]},
    ]
    body = {"model": TEXT, "prompt": "What is this service?", "max_tokens": 12, "ignore_eos": True}
    with prometheus(tmp_path, jobs) as server:
        for _ in range(4):
            http.post("/v1/completions", json=body).raise_for_status()
        wanted = queries("overview") | queries("model", model=TEXT) | queries("nodes")
        if shutil.which("nvidia-smi") is None:
            wanted = {name: expr for name, expr in wanted.items() if not any(metric in expr for metric in OF_GPUS)}
        assert not server.without_series(wanted, timeout_s=90)
        groups = server.page("rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert len(rules) > 30 and not [rule for rule in rules if rule["health"] == "err"]
        recorded = {rule["name"]: rule["name"] for rule in rules if rule["type"] == "recording"}
        assert not server.without_series(recorded, timeout_s=60)
        assert not [rule["name"] for rule in rules if rule.get("state") == "firing"]


def _nodes(service: Service) -> str:
    """Where Ray writes the addresses of its nodes' metrics for Prometheus."""
    found = Path(launch(service).folder).rglob("prom_metrics_service_discovery.json")
    return str(min(found, key=lambda path: len(path.parts)))
