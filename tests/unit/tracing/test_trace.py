"""A request's trace, through a router and replicas, as a collector gets it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from serve_app.batch.run.pooled import PoolClient
from serve_app.config.schema import ModelConfig, Simulated
from serve_app.config.telemetry import TracingConfig
from serve_app.engine.simulation import SimulatedEngine
from serve_app.logs.names import ProcessName
from serve_app.replica.ledger import Ledger
from serve_app.replica.server import ReplicaServer
from serve_app.routing.body import RequestBody
from serve_app.routing.catalogue import Catalogue, Served
from serve_app.routing.head import ClientGone
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from serve_app.routing.replica import Published
from serve_app.routing.router import Router
from serve_app.tracing.process import Tracing
from tests.support.collector import Collector, Span, collecting
from tests.support.replicas import published

FAST = {"step_base_ms": 2.0, "step_per_sequence_ms": 0.0, "prefill_tokens_per_s": 1e6}
MODEL = ModelConfig(id="m", engine="simulated", simulated=Simulated(**FAST))
ROOT = "text_completion m"
TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TOKEN = "secret"


def traceparent(flags: str = "01") -> tuple[bytes, bytes]:
    return b"traceparent", f"00-{TRACE}-{CLIENT}-{flags}".encode()


class Stack:
    """A router and replicas of simulated engines, all of which are traced."""

    def __init__(self, collector: Collector, open_ones: AsyncExitStack) -> None:
        self._collector = collector
        self._open = open_ones
        self.pool = ReplicaPool("m", QueueLimits(8, 1, 0.3))
        self.router = Router(Catalogue([Served(MODEL, self.pool)]), continue_bytes=2**20)
        self.engines: dict[str, SimulatedEngine] = {}
        self.tracings: list[Tracing] = []
        self._announced: list[Published] = []

    def traced(self, part: Any, **settings: Any) -> Tracing:
        made = Tracing(TracingConfig(endpoint=self._collector.url, **settings), ProcessName(part, "app", "id"))
        self._open.callback(made.close)
        self.tracings.append(made)
        return made

    async def add(self, name: str, capacity: int = 8) -> None:
        engine = self.engines[name] = await SimulatedEngine.start(MODEL)
        app = self.traced("engine").of_replica(engine.app, "m")
        server = ReplicaServer(app, token=TOKEN, capacity=capacity, failure=engine.failure, ledger=Ledger("m"))
        url = await server.start("127.0.0.1")
        self._open.push_async_callback(engine.stop)
        self._open.push_async_callback(server.stop)
        self._announced.append(published(name, url=url, token=TOKEN, capacity=capacity))
        self.pool.update(self._announced)

    async def ask(
        self,
        *headers: tuple[bytes, bytes],
        after: int = 0,
        then: Callable[[], Any] = lambda: None,
        leaves: asyncio.Event | None = None,
        **body: Any,
    ) -> bytes:
        """A stream's whole answer; `then` is done once, after so many events."""
        got = b""

        async def send(message: dict[str, Any]) -> None:
            nonlocal got, after
            got += message.get("body", b"")
            if after and got.count(b"\n\n") >= after:
                after = 0
                if asyncio.iscoroutine(done := then()):
                    await done

        async def receive() -> dict[str, str]:
            await (leaves or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        asked = {"model": "m", "prompt": "a", "max_tokens": 20, "stream": True, **body}
        given = [(b"content-type", b"application/json"), (b"x-request-id", b"mine"), *headers]
        scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": given}
        request = self.router.route(scope, RequestBody(json.dumps(asked).encode()))
        await self.router.answer(request, send, receive)
        return got


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@asynccontextmanager
async def standing(collector: Collector, replicas: int = 1, **settings: Any) -> AsyncIterator[Stack]:
    async with AsyncExitStack() as open_ones:
        stack = Stack(collector, open_ones)
        stack.traced("ingress", **settings).of_router(stack.router)
        for number in range(replicas):
            await stack.add(f"r{number}")
        yield stack


@pytest.fixture
async def stack(collector: Collector) -> AsyncIterator[Stack]:
    async with standing(collector, sample=0) as stack:
        yield stack


async def spans(collector: Collector, *names: str) -> dict[str, Span]:
    return await asyncio.to_thread(collector.until, TRACE, *names)


async def all_of(collector: Collector, name: str, count: int) -> list[Span]:
    """Those of this name, in the order in which they began, once there are so many."""
    async with asyncio.timeout(20):
        while len(found := collector.named(name)) < count:
            await asyncio.sleep(0.02)
    return sorted(found, key=lambda span: span.start_s)


async def test_a_clients_trace_goes_on_through_the_router_and_the_replica(collector: Collector, stack: Stack) -> None:
    await stack.ask(traceparent(), (b"tracestate", b"a=b"))
    found = await spans(collector, ROOT, "attempt", "replica")
    root, attempt, replica = found[ROOT], found["attempt"], found["replica"]
    assert (root.parent, attempt.parent, replica.parent) == (CLIENT, root.id, attempt.id)
    assert root.service == attempt.service == "serve-app-ingress" and replica.service == "serve-app-engine"
    assert root.attributes == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "serve_app",
        "gen_ai.request.model": "m",
        "http.request.method": "POST",
        "http.request.header.x-request-id": ["mine"],
        "http.response.status_code": 200,
        "http.route": "/v1/completions",
    }
    assert attempt.attributes["serve_app.replica"] == "r0" and attempt.attributes["server.port"] > 0
    tokens = {name: value for name, value in replica.attributes.items() if name.startswith("gen_ai.usage")}
    assert tokens == {
        "gen_ai.usage.input_tokens": 1,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.output_tokens": 20,
    }
    assert root.events == ["first byte"] and replica.events == ["let in", "first byte"]
    assert root.start_s <= attempt.start_s <= replica.start_s < replica.end_s <= root.end_s
    assert not (root.failed or attempt.failed or replica.failed)


async def test_who_is_traced(collector: Collector, stack: Stack) -> None:
    """The client's word counts, either way; of those who say nothing that can be read, a share."""
    await stack.ask(traceparent("00"))
    await stack.ask()
    await stack.ask((b"traceparent", b"00-0-0-01"))
    async with standing(collector, sample=1) as everybody:
        await everybody.ask(traceparent("00"))
        await everybody.ask()
    for tracing in stack.tracings:
        tracing.close()
    (root,) = collector.named(ROOT)
    assert root.parent == "" and {span.trace for span in collector.spans} == {root.trace}
    assert len(collector.of(root.trace)) == 3


async def test_a_line_of_a_batch_is_a_trace_of_its_own(collector: Collector) -> None:
    async with standing(collector, sample=1) as stack:
        body = b'{"model": "m", "prompt": "a", "max_tokens": 3}'
        assert (await PoolClient(stack.router).send("/v1/completions", body)).status == 200
        await stack.ask()
    line, other = await all_of(collector, ROOT, 2)
    assert line.attributes["serve_app.batch"] and "serve_app.batch" not in other.attributes
    assert line.trace != other.trace and line.parent == other.parent == ""


async def test_a_share_is_a_share(collector: Collector) -> None:
    async with standing(collector, sample=0.25) as stack:
        for _ in range(25):
            await asyncio.gather(*(stack.ask(max_tokens=1) for _ in range(8)))
    assert 20 <= len(collector.named(ROOT)) <= 85, "six standard deviations"


async def test_a_wait_is_a_span_of_its_own(collector: Collector) -> None:
    async with standing(collector, replicas=0) as stack:
        await stack.add("r0", capacity=1)
        await asyncio.gather(stack.ask(), stack.ask(traceparent()))
    found = await spans(collector, "wait for a replica", "attempt")
    wait = found["wait for a replica"]
    assert wait.parent == found[ROOT].id and wait.end_s - wait.start_s > 0.02
    assert wait.end_s <= found["attempt"].start_s + 0.001


async def test_a_retry_is_another_attempt(collector: Collector, stack: Stack) -> None:
    await stack.engines["r0"].stop()
    await stack.add("r1")
    asked = 0
    while len(attempts := collector.named("attempt")) <= asked:
        await stack.ask(traceparent(), max_tokens=1)
        asked += 1
        roots = await all_of(collector, ROOT, asked)
    (refused,) = (span for span in attempts if span.failed)
    (other,) = (span for span in attempts if span.parent == refused.parent and span != refused)
    assert (refused.attributes["serve_app.replica"], refused.attributes["error.type"]) == ("r0", "dead")
    assert (other.attributes["serve_app.replica"], other.attributes["serve_app.attempt"]) == ("r1", 2)
    assert not other.failed and not any(root.failed for root in roots)


async def test_a_stream_that_goes_on_shows_where_it_was(collector: Collector, stack: Stack) -> None:
    await stack.add("r1")

    async def lose() -> None:
        busy = next(one for one in stack.engines.values() if one.load().running)
        await busy.stop()

    got = await stack.ask(traceparent(), after=5, then=lose, max_tokens=100)
    assert b"[DONE]" in got and b'"error"' not in got
    (root,) = await all_of(collector, ROOT, 1)
    lost, goes_on = await all_of(collector, "attempt", 2)
    assert lost.failed and lost.attributes["serve_app.lost"] and lost.attributes["error.type"] == "died"
    assert goes_on.attributes["serve_app.continued_events"] >= 5 and not goes_on.failed
    assert goes_on.parent == lost.parent == root.id
    replicas = await all_of(collector, "replica", 2)
    made = {span.parent: span.attributes["gen_ai.usage.output_tokens"] for span in replicas}
    assert made.keys() == {lost.id, goes_on.id} and made[goes_on.id] < 100 <= sum(made.values())


async def test_a_client_that_leaves_is_told_apart(collector: Collector, stack: Stack) -> None:
    leaves = asyncio.Event()
    with pytest.raises(ClientGone):
        await stack.ask(traceparent(), after=2, then=leaves.set, leaves=leaves, max_tokens=2000)
    found = await spans(collector, ROOT, "attempt", "replica")
    assert [found[name].attributes["error.type"] for name in (ROOT, "attempt")] == ["client_gone"] * 2
    assert not any(span.failed for span in found.values())


async def test_an_answer_that_breaks_off_has_failed(collector: Collector, stack: Stack) -> None:
    got = await stack.ask(traceparent(), after=2, then=lambda: stack.engines["r0"].stop(), max_tokens=100)
    assert b'"error"' in got
    root = (await spans(collector, ROOT))[ROOT]
    assert root.failed and root.attributes["error.type"] == "replica_failed"
