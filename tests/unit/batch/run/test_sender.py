from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from serve_app.batch.run import sender as sender_module
from serve_app.batch.run.client import NoResponse, ServiceResponse
from serve_app.batch.run.pace import Pace, ServiceLoad
from serve_app.batch.run.sender import TRIES, PacedSender, RunStopped

OK = ServiceResponse(200, b"{}")


class Scripted:
    """A client that answers what it was told to, then OK."""

    def __init__(self, outcomes: Iterator[ServiceResponse | NoResponse]) -> None:
        self.outcomes = outcomes
        self.asked = self.open = self.most = 0

    async def send(self, url: str, body: bytes) -> ServiceResponse:
        self.asked += 1
        self.open += 1
        self.most = max(self.most, self.open)
        await asyncio.sleep(0)
        self.open -= 1
        outcome = next(self.outcomes, OK)
        if isinstance(outcome, NoResponse):
            raise outcome
        return outcome

    async def load(self, model: str | None) -> ServiceLoad | None:
        return None


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr(sender_module, "BACKOFF_MOST_S", 0.001)


async def ask(*outcomes: ServiceResponse | NoResponse) -> tuple[ServiceResponse | NoResponse, int]:
    client = Scripted(iter(outcomes))
    async with PacedSender(client, Pace()) as sender:
        return await sender.ask("/v1/completions", b"{}"), client.asked


@pytest.mark.parametrize("status", [200, 400, 404, 413, 422])
async def test_what_is_final_is_asked_once(status: int) -> None:
    outcome, asked = await ask(ServiceResponse(status, b""))
    assert isinstance(outcome, ServiceResponse) and (outcome.status, asked) == (status, 1)


@pytest.mark.parametrize(
    "failure",
    [ServiceResponse(500, b""), ServiceResponse(503, b""), ServiceResponse(504, b""), NoResponse("broke", sent=True)],
)
async def test_what_may_pass_is_tried_again_a_few_times(failure: ServiceResponse | NoResponse) -> None:
    assert await ask(failure, failure) == (OK, 3)
    assert await ask(*[failure] * 50) == (failure, TRIES)


@pytest.mark.parametrize("busy", [ServiceResponse(429, b""), NoResponse("refused", sent=False)])
async def test_a_service_that_is_full_or_away_costs_no_line(busy: ServiceResponse | NoResponse) -> None:
    assert await ask(*[busy] * 20) == (OK, 21)


async def test_a_wrong_key_stops_everything() -> None:
    with pytest.raises(RunStopped, match="API key"):
        await ask(ServiceResponse(401, b""))


async def test_a_service_that_never_answers_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "PATIENCE_S", 0.02)
    with pytest.raises(RunStopped, match="no request: full"):
        await ask(*[NoResponse("full", sent=False)] * 1000)


async def test_no_more_are_open_than_the_pace_allows_and_none_is_forgotten() -> None:
    client = Scripted(iter([]))
    async with PacedSender(client, Pace(start=3, most=3)) as sender:
        answers = await asyncio.gather(*(sender.ask("/", b"") for _ in range(100)))
    assert client.most == 3 and len(answers) == 100


@pytest.mark.parametrize("body", [b'{"n": 50}', b'{"n": "25", "prompt": ["a", "b"]}'])
async def test_a_line_of_many_answers_is_open_as_many(body: bytes) -> None:
    client = Scripted(iter([]))
    async with PacedSender(client, Pace(start=100, most=100)) as sender:
        asked = [asyncio.create_task(sender.ask("/", body)) for _ in range(10)]
        await asyncio.sleep(0)
        assert sender.open == 100
        await asyncio.gather(*asked)
    assert client.most == 2 and sender.open == 0


async def test_one_that_is_cancelled_while_it_waits_leaves_its_turn_to_the_next() -> None:
    client = Scripted(iter([]))
    async with PacedSender(client, Pace(start=1, most=1)) as sender:
        tasks = [asyncio.create_task(sender.ask("/", b"")) for _ in range(5)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        async with asyncio.timeout(5):
            results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(result == OK for result in results) == 4
