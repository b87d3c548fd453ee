"""A replica that sleeps: when it does, what wakes it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from starlette.responses import PlainTextResponse

from serve_app.replica.admission import AdmissionControl
from serve_app.replica.protocol import REFUSED_HEADER, TOKEN_HEADER
from serve_app.replica.sleep import SLEEP, WAKE, SleepControl


class Engine:
    """Says what it did."""

    def __init__(self, fails: str = "") -> None:
        self.did: list[str] = []
        self._fails = fails

    async def sleep(self) -> None:
        await self._do("sleep")

    async def wake(self) -> None:
        await self._do("wake")

    async def _do(self, what: str) -> None:
        await asyncio.sleep(0.01)
        if what == self._fails:
            raise MemoryError(what)
        self.did.append(what)


class Server:
    """A replica's application behind its admission control, whose answers wait until they may end."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.may_end = asyncio.Event()
        self.sleep = SleepControl(engine)
        self.admission = AdmissionControl(self._app, "t", 4, lambda: None, self.sleep)
        transport = httpx.ASGITransport(self.admission)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://r", headers={TOKEN_HEADER.decode(): "t"})

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.engine.did.append("answer")
        await self.may_end.wait()
        await PlainTextResponse("ok")(scope, receive, send)

    async def asked(self, path: str) -> httpx.Response:
        return await self.client.post(path)

    async def until(self, *did: str) -> None:
        async with asyncio.timeout(5):
            while self.engine.did != list(did):
                await asyncio.sleep(0.005)


async def test_it_sleeps_at_once_and_a_request_wakes_it() -> None:
    server = Server(Engine())
    server.may_end.set()
    assert (await server.asked(SLEEP)).json() == {"resting": True}
    await server.until("sleep")
    assert (await server.asked("/v1/completions")).status_code == 200
    assert server.engine.did == ["sleep", "wake", "answer"] and not server.sleep.resting


async def test_it_finishes_what_is_open_first() -> None:
    server = Server(Engine())
    open_one = asyncio.create_task(server.asked("/v1/completions"))
    await server.until("answer")
    await server.asked(SLEEP)
    await asyncio.sleep(0.05)
    assert server.engine.did == ["answer"] and server.sleep.resting
    server.may_end.set()
    assert (await open_one).status_code == 200
    await server.until("answer", "sleep")


async def test_it_stays_awake_if_it_is_told_before_it_sleeps() -> None:
    server = Server(Engine())
    open_one = asyncio.create_task(server.asked("/v1/completions"))
    await server.until("answer")
    await server.asked(SLEEP)
    assert (await server.asked(WAKE)).json() == {"resting": False}
    server.may_end.set()
    await open_one
    await asyncio.sleep(0.05)
    assert server.engine.did == ["answer"]


async def test_many_requests_at_once_wake_it_once() -> None:
    server = Server(Engine())
    server.may_end.set()
    await server.asked(SLEEP)
    answers = await asyncio.gather(*(server.asked("/v1/completions") for _ in range(4)))
    assert [one.status_code for one in answers] == [200] * 4
    assert server.engine.did.count("wake") == server.engine.did.count("sleep") <= 1


async def test_no_request_reaches_an_engine_that_falls_asleep_or_wakes() -> None:
    server = Server(Engine())
    server.may_end.set()
    await server.asked(SLEEP)
    requests = []
    for _ in range(4):
        await asyncio.sleep(0.004)
        requests.append(asyncio.create_task(server.asked("/v1/completions")))
    await asyncio.gather(*requests)
    assert server.engine.did == ["sleep", "wake", *["answer"] * 4]


async def test_an_order_to_sleep_that_comes_while_it_wakes_is_kept() -> None:
    server = Server(Engine())
    await server.asked(SLEEP)
    await server.until("sleep")
    waking = asyncio.create_task(server.asked(WAKE))
    await asyncio.sleep(0.003)
    await server.asked(SLEEP)
    await waking
    await server.until("sleep", "wake", "sleep")
    assert server.sleep.resting


async def test_one_that_does_not_wake_refuses_and_is_replaced() -> None:
    server = Server(Engine(fails="wake"))
    await server.asked(SLEEP)
    await server.until("sleep")
    answer = await server.asked("/v1/completions")
    assert answer.status_code == 503 and answer.headers[REFUSED_HEADER.decode()] == "dead"
    assert server.sleep.failure is not None and server.admission.in_flight == 0


async def test_a_stranger_puts_nothing_to_sleep() -> None:
    server = Server(Engine())
    answer = await server.client.post(SLEEP, headers={TOKEN_HEADER.decode(): "other"})
    assert answer.status_code == 401 and not server.sleep.resting
