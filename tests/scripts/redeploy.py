"""Redeploys a service under load and long streams; prints the statuses of all requests, and how the streams ended."""

from __future__ import annotations

import collections
import json
import threading

import httpx
import ray
from ray import serve

from serve_app.app import build
from serve_app.config.schema import ServiceConfig
from serve_app.launching.environment import free_ports

LONG_TOKENS = 2600
"""At 10 ms each: a replica that Serve stops has 20 s unless its deployment says otherwise."""


OLD_GONE_S = 10.0
"""By then the old ingress is told to go, and waits for the streams."""


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
    ray.init("local", num_cpus=2, log_to_driver=False)
    port = free_ports(1)[0]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    url = f"http://127.0.0.1:{port}"
    statuses: collections.Counter[str] = collections.Counter()
    replicas: set[str] = set()
    ends: collections.Counter[str] = collections.Counter()
    redeployed = threading.Event()
    meanwhile: collections.Counter[str] = collections.Counter()
    done = threading.Event()

    def load() -> None:
        body = {"model": "m", "prompt": "a", "max_tokens": 100}
        with httpx.Client(timeout=60) as http:
            while not done.is_set():
                late = redeployed.is_set() and not ends
                try:
                    statuses[str(http.post(f"{url}/v1/completions", json=body).status_code)] += 1
                except httpx.HTTPError as error:
                    statuses[repr(error)] += 1
                meanwhile["answered"] += late and not ends

    def stream() -> None:
        body = {"model": "m", "prompt": "a", "max_tokens": LONG_TOKENS, "stream": True}
        try:
            with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as answer:
                ends["whole" if b"[DONE]" in answer.read() else "cut"] += 1
        except httpx.HTTPError as error:
            ends[repr(error)] += 1

    try:
        serve.run(build(config(10)), name="lfm2", route_prefix="/")
        threads = [threading.Thread(target=load) for _ in range(8)]
        streams = [threading.Thread(target=stream) for _ in range(4)]
        for thread in (*threads, *streams):
            thread.start()
        replicas |= running_replicas()
        threading.Timer(OLD_GONE_S, redeployed.set).start()
        serve.run(build(config(5)), name="lfm2", route_prefix="/")
        replicas |= running_replicas()
        done.set()
        for thread in (*threads, *streams):
            thread.join()
        print(
            json.dumps(
                {"statuses": statuses, "replicas": len(replicas), "streams": ends, "meanwhile": meanwhile["answered"]}
            )
        )
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
