"""/metrics over replicas that answer, are slow, are frozen or are gone; and each replica by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

import aiohttp
import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve_app.config.schema import ModelConfig
from serve_app.http.pages import starlette_app
from serve_app.ingress import scrapes
from serve_app.ingress.metrics_pages import MetricsPages
from serve_app.replica.exposition import own
from serve_app.replica.ledger import Account, Ledger, Used
from serve_app.replica.server import ReplicaServer
from serve_app.routing.catalogue import Catalogue, Served
from serve_app.routing.metrics import Metrics
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from tests.support.replicas import published

UP, RUNNING = "serve_app_replica_up", "vllm:num_requests_running"


class Exporter:
    """A replica whose engine has `running` requests, and whose page comes once it is `open`."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.open = asyncio.Event()
        self.open.set()
        self.asked = 0
        registry = CollectorRegistry()
        self.running = Gauge(RUNNING, "Running.", registry=registry)
        self.process = Gauge("process_threads", "Of the process.", registry=registry)
        ledger = Ledger("m")
        account = Account("team")
        account.sequences.append(lambda: Used(5, 0, 2))
        with ledger.account(account):
            pass

        async def page(request: Request) -> Response:
            self.asked += 1
            await self.open.wait()
            return Response(own(registry))

        app = starlette_app([Route("/metrics", page)])
        self.server = ReplicaServer(app, token=f"secret-{id}", capacity=1, failure=lambda: None, ledger=ledger)

    async def start(self) -> str:
        return await self.server.start("127.0.0.1")


class Service:
    """The pages of an ingress process with these replicas."""

    def __init__(self, http: httpx.AsyncClient, **replicas: Exporter) -> None:
        self.http = http
        self.replicas = SimpleNamespace(**replicas)

    async def samples(self, name: str) -> dict[str, float]:
        """Of one metric, by replica."""
        families = text_string_to_metric_families((await self.http.get("/metrics")).text)
        return {one.labels["replica"]: one.value for family in families for one in family.samples if one.name == name}


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    replicas = {id: Exporter(id) for id in ("a", "b")}
    pool = ReplicaPool("m", QueueLimits(1, 1, 1))
    urls = {id: await one.start() for id, one in replicas.items()}
    known = [published(id, url=url, token=f"secret-{id}") for id, url in urls.items()]
    pool.update([*known, published("gone")])
    catalogue = Catalogue([Served(ModelConfig.model_validate({"id": "m"}), pool)])
    async with aiohttp.ClientSession() as session:
        app = starlette_app(MetricsPages(catalogue, Metrics(), session).routes())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service:8000") as http:
            yield Service(http, **replicas)
    for one in replicas.values():
        one.open.set()
        await one.server.stop()


async def test_one_page_has_all_and_tells_who_did_not_answer(service: Service) -> None:
    service.replicas.a.running.set(3)
    assert await service.samples(RUNNING) == {"a": 3, "b": 0}
    assert await service.samples(UP) == {"a": 1, "b": 1, "gone": 0}
    text = (await service.http.get("/metrics")).text
    assert 'serve_app_tokens_total{key="team",kind="output",model="m",replica="a"} 2.0' in text
    assert "process_threads" not in text and "secret-" not in text


async def test_a_frozen_replica_holds_up_one_scrape_and_no_other(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = service.replicas.a
    a.running.set(3)
    await service.samples(RUNNING)
    a.running.set(4)
    a.open.clear()
    assert await service.samples(RUNNING) == {"a": 3, "b": 0}
    # Were it waited for, this would not end.
    monkeypatch.setattr(scrapes, "WAIT_S", None)
    async with asyncio.timeout(5):
        assert (await service.samples(UP))["a"] == 0
    assert a.asked == 2
    monkeypatch.setattr(scrapes, "KEPT_S", -1.0)
    assert "a" not in await service.samples(RUNNING)


async def test_a_slow_replica_is_one_scrape_behind_and_waited_for_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = service.replicas.a
    a.open.clear()
    assert (await service.samples(UP))["a"] == 0
    a.running.set(5)
    a.open.set()
    monkeypatch.setattr(scrapes, "WAIT_S", None)
    deadline = time.monotonic() + 10
    while (await service.samples(UP))["a"] == 0:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    assert await service.samples(RUNNING) == {"a": 5, "b": 0}


async def test_targets_lead_to_each_replica_through_the_service(service: Service) -> None:
    service.replicas.b.running.set(7)
    answer = await service.http.get("/metrics/targets")
    assert answer.headers["content-type"] == "application/json" and "secret-" not in answer.text
    targets = answer.json()
    assert {target for one in targets for target in one["targets"]} == {"service:8000"}
    of_replica = {one["labels"].get("replica"): one["labels"] for one in targets}
    assert of_replica.keys() == {None, "a", "b", "gone"}
    assert of_replica["b"]["model"] == "m" and of_replica["b"]["node"] == "127.0.0.1"
    page = (await service.http.get(of_replica["b"]["__metrics_path__"])).text
    assert f"{RUNNING} 7.0\n" in page and "process_threads" in page and 'key="team"' in page
    ours = (await service.http.get(of_replica[None]["__metrics_path__"])).text
    assert "serve_app_requests" in ours and RUNNING not in ours


async def test_a_replica_that_is_not_there_is_told(service: Service) -> None:
    for id, status in (("gone", 503), ("other", 404), ("targets", 404)):
        answer = await service.http.get(f"/metrics/replicas/{id}")
        assert answer.status_code == status and id in answer.json()["error"]["message"]
