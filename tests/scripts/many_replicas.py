"""What a scrape of /metrics costs an ingress with a hundred replicas whose pages are as long as vLLM's.

`python -m tests.scripts.many_replicas [REPLICAS]` prints the time of a scrape and how much of it the ingress computes,
medians of 20, ms. The replicas' servers are real, in a process of their own; 3 of them are frozen.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import statistics
import sys
import time
from multiprocessing.connection import Connection

import aiohttp
import httpx
from prometheus_client import CollectorRegistry, Gauge, Histogram
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve_app.config.schema import ModelConfig
from serve_app.http.pages import starlette_app
from serve_app.ingress.metrics_pages import MetricsPages
from serve_app.replica.exposition import own
from serve_app.replica.server import ReplicaServer
from serve_app.routing.catalogue import Catalogue, Served
from serve_app.routing.metrics import Metrics
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from tests.support.replicas import published

HISTOGRAMS, BUCKETS, GAUGES = 16, 18, 60
FROZEN = 3
SCRAPES = 20


async def serve(count: int, told: Connection) -> None:
    registry = CollectorRegistry()
    buckets = [2.0**power for power in range(BUCKETS - 1)]
    labels = {"engine": "0", "model_name": "LiquidAI/LFM2-1.2B"}
    for index in range(HISTOGRAMS):
        name = f"vllm:request_phase_{index}_time_seconds"
        Histogram(name, "Time in a phase.", labels, registry=registry, buckets=buckets).labels(**labels).observe(3)
    for index in range(GAUGES):
        Gauge(f"vllm:number_of_things_{index}", "Things.", labels, registry=registry).labels(**labels).set(index)

    async def page(request: Request) -> Response:
        return Response(own(registry))

    async def frozen(request: Request) -> Response:
        await asyncio.sleep(3600)
        return Response()

    pages = [frozen] * FROZEN + [page] * (count - FROZEN)
    servers = [
        ReplicaServer(starlette_app([Route("/metrics", one)]), token="t", capacity=1, failure=lambda: None)
        for one in pages
    ]
    told.send([await one.start("127.0.0.1") for one in servers])
    await asyncio.sleep(3600)


async def scrape(urls: list[str]) -> dict[str, float]:
    pool = ReplicaPool("m", QueueLimits(1, 1, 1))
    pool.update([published(f"replica{index}", url=url) for index, url in enumerate(urls)])
    catalogue = Catalogue([Served(ModelConfig.model_validate({"id": "m"}), pool)])
    took, computed, first_s, size = [], [], 0.0, 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        app = starlette_app(MetricsPages(catalogue, Metrics(), session).routes())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http:
            for _ in range(SCRAPES + 1):
                began, cpu = time.perf_counter(), time.process_time()
                size = len((await http.get("/metrics")).content)
                took.append(time.perf_counter() - began)
                computed.append(time.process_time() - cpu)
            first_s = took.pop(0)
            computed.pop(0)
    return {
        "replicas": len(urls),
        "page_mib": round(size / 2**20, 2),
        "first_ms": round(1000 * first_s, 1),
        "scrape_ms": round(1000 * statistics.median(took), 1),
        "ingress_cpu_ms": round(1000 * statistics.median(computed), 1),
    }


def main() -> None:
    ours, theirs = multiprocessing.Pipe()
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    process = multiprocessing.Process(target=lambda: asyncio.run(serve(count, theirs)), daemon=True)
    process.start()
    print(json.dumps(asyncio.run(scrape(ours.recv()))))


if __name__ == "__main__":
    main()
