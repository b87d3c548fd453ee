"""Starts a cluster of two nodes with room for one replica each, serves, asks, and prints what it found."""

from __future__ import annotations

import concurrent.futures
import json
import time

import httpx
import ray
from ray import serve
from ray.cluster_utils import Cluster

from serve_app.app import build
from serve_app.config.schema import ServiceConfig
from serve_app.launching.environment import free_ports
from tests.support.service import gauge


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    port = free_ports(1)[0]
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    args = {"models": [{"id": "lfm2-demo", "replicas": 2, "cpus": 1}], "ingress": {"cpus": 0}}
    serve.run(build(ServiceConfig.model_validate(args)), name="lfm2", route_prefix="/")
    url = f"http://127.0.0.1:{port}"
    try:
        while httpx.get(f"{url}/ready").json()["models"]["lfm2-demo"]["ready"] < 2:
            time.sleep(0.5)
        body = {"model": "lfm2-demo", "prompt": "a", "max_tokens": 64, "ignore_eos": True}
        with concurrent.futures.ThreadPoolExecutor(16) as threads:
            asked = [threads.submit(httpx.post, f"{url}/v1/completions", json=body, timeout=60) for _ in range(16)]
            statuses = [answer.result().status_code for answer in asked]
        tokens = gauge(url, "vllm:generation_tokens_total")
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        free_cpus = ray.available_resources().get("CPU", 0)
        print(json.dumps({"nodes": nodes, "free_cpus": free_cpus, "statuses": statuses, "tokens": tokens}))
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
