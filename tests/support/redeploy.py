"""Redeploys a service under load, and prints the statuses of all requests sent meanwhile."""

from __future__ import annotations

import collections
import json
import threading

import httpx
import ray
from ray import serve

from serve_app.app import build
from serve_app.config import ServiceConfig
from serve_app.launching.environment import free_ports


def config(step_base_ms: float) -> ServiceConfig:
    """The same service, its engines' speed apart; changing that replaces every engine replica."""
    model = {
        "id": "m",
        "engine": "simulated",
        "cpus": 0.1,
        "replicas": 2,
        "drain_timeout_s": 60,
        "simulated": {"step_base_ms": step_base_ms},
    }
    return ServiceConfig.model_validate({"models": [model], "ingress": {"cpus": 0.1}})


def main() -> None:
    ray.init(num_cpus=2, log_to_driver=False)
    port = free_ports(1)[0]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    url = f"http://127.0.0.1:{port}"
    statuses: collections.Counter[str] = collections.Counter()
    replicas: set[str] = set()
    done = threading.Event()

    def load() -> None:
        body = {"model": "m", "prompt": "a", "max_tokens": 100}
        with httpx.Client(timeout=60) as http:
            while not done.is_set():
                try:
                    statuses[str(http.post(f"{url}/v1/completions", json=body).status_code)] += 1
                except httpx.HTTPError as error:
                    statuses[repr(error)] += 1

    try:
        serve.run(build(config(10)), name="lfm2", route_prefix="/")
        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        replicas |= running_replicas()
        serve.run(build(config(5)), name="lfm2", route_prefix="/")
        replicas |= running_replicas()
        done.set()
        for thread in threads:
            thread.join()
        print(json.dumps({"statuses": statuses, "replicas": len(replicas)}))
    finally:
        done.set()
        serve.shutdown()
        ray.shutdown()


def running_replicas() -> set[str]:
    deployment = serve.status().applications["lfm2"].deployments["m"]
    assert deployment.replica_states.get("RUNNING", 0) == 2
    handle = serve.get_deployment_handle("m", "lfm2")
    return {str(handle.record_replica_metadata.remote().result()["url"]) for _ in range(20)}


if __name__ == "__main__":
    main()
