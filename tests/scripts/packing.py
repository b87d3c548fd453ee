"""Scales a model up on two nodes of two (logical) GPUs each, and prints whether they share one.

Two ingress processes serve it, and what `/metrics` says of them is printed too.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from prometheus_client.parser import text_string_to_metric_families

from serve_app.launching.environment import environment, free_ports

WHOLE_WITHIN_S = 10.0
SCRAPES = 4


def main(packed: bool) -> None:
    with TemporaryDirectory() as folder:
        name = "RAY_SERVE_USE_PACK_SCHEDULING_STRATEGY"
        os.environ[name] = environment("", Path(folder))[name] if packed else "0"

    import ray
    from ray import serve
    from ray.cluster_utils import Cluster
    from ray.util.placement_group import placement_group, remove_placement_group

    from serve_app.app import build
    from serve_app.config.schema import ServiceConfig

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 2})
    cluster.add_node(num_cpus=2, num_gpus=2)
    ray.init(address=cluster.address, log_to_driver=False)
    port = free_ports(1)[0]
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    model = {
        "id": "m",
        "engine": "simulated",
        "gpus": 0.25,
        "cpus": 0.1,
        "max_running": 4,
        "autoscaling": {"max_replicas": 4, "downscale_delay_s": 600},
    }
    serve.run(
        build(ServiceConfig.model_validate({"models": [model], "ingress": {"cpus": 0, "replicas": 2}})), name="lfm2"
    )
    http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)

    def ready() -> int:
        return int(http.get("/ready").json()["models"]["m"]["ready"])

    def three_whole() -> bool:
        """Whether three of the four GPUs can be had whole at the same time."""
        group = placement_group([{"GPU": 1}] * 3)
        try:
            return bool(group.wait(WHOLE_WITHIN_S))
        finally:
            remove_placement_group(group)

    try:
        deadline = time.monotonic() + 60
        grown = threading.Event()

        def load() -> list[int]:
            """Requests one after another, until the model has grown."""
            body = {"model": "m", "prompt": "a", "max_tokens": 300}
            statuses = []
            while not grown.is_set():
                statuses.append(http.post("/v1/completions", json=body).status_code)
            return statuses

        with concurrent.futures.ThreadPoolExecutor(16) as threads:
            loads = [threads.submit(load) for _ in range(16)]
            while ready() < 4 and time.monotonic() < deadline:
                time.sleep(0.2)
            grown.set()
            statuses = [status for one in loads for status in one.result()]
        pages = [completions(http.get("/metrics").text) for _ in range(SCRAPES)]
        found = {"ready": ready(), "statuses": statuses, "completions": pages, "three_whole": three_whole()}
        print(json.dumps(found))
    finally:
        ray.shutdown()
        cluster.shutdown()


def completions(page: str) -> dict[str, float]:
    """Completions answered by each ingress process that could be reached."""
    families = {family.name: family.samples for family in text_string_to_metric_families(page)}
    found = {one.labels["ingress"]: 0.0 for one in families["serve_app_ingress_up"] if one.value == 1}
    for one in families["serve_app_requests"]:
        if one.labels.get("route") == "/v1/completions" and one.name.endswith("_total"):
            found[one.labels["ingress"]] += one.value
    return found


if __name__ == "__main__":
    import sys

    main(packed="spread" not in sys.argv)
