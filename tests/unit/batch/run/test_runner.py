"""A run: its queues, and the disk beside it."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.batch.run import model_queue, runner
from serve_app.batch.run.client import ServiceResponse
from serve_app.batch.run.input import InputLine
from serve_app.batch.run.input import read as read_input
from serve_app.batch.run.job import Job, RunSummary
from serve_app.batch.run.journal import Journal, JournalError
from serve_app.batch.run.pace import Pace, ServiceLoad
from serve_app.batch.run.pooled import PoolClient
from serve_app.batch.run.runner import run
from serve_app.batch.run.sender import RunStopped
from serve_app.replica.protocol import ReplicaLoad
from serve_app.routing.replica import Published
from tests.support.batches import lines
from tests.unit.batch.conftest import Engine


@pytest.fixture
def job(tmp_path: Path) -> Job:
    input = tmp_path / "in.jsonl"
    input.write_bytes(lines(({"model": "m", "prompt": "a"} for _ in range(20)), "/v1/completions"))
    return Job((input,), tmp_path / "out.jsonl", tmp_path / "errors.jsonl")


def two_models(input: Path, first: str = "a") -> None:
    """Many lines of `m`, then some of `n`, then some of neither."""
    bodies = [{"model": "m", "prompt": first}] * 200 + [{"model": "n", "prompt": "b"}] * 20 + [{"model": "unknown"}]
    input.write_bytes(lines(bodies, "/v1/completions") + b"{\n")


def answered(job: Job) -> Counter[str]:
    """Prompts, which come back as the answers."""
    records = map(json.loads, job.output.read_text().splitlines())
    return Counter(record["response"]["body"]["choices"][0]["text"] for record in records)


async def test_a_model_that_is_full_holds_up_no_other(
    job: Job, client: Callable[[], PoolClient], engine: Engine
) -> None:
    two_models(job.inputs[0])
    engine.free.add("n")
    others_done = asyncio.Event()

    def see(summary: RunSummary) -> None:
        assert summary.open <= 2 * 8
        if summary.done == 22:
            others_done.set()

    running = asyncio.create_task(run(job, client(), lambda model: Pace(start=8, most=8), progress=see))
    await asyncio.wait_for(others_done.wait(), 10)
    assert answered(job) == {"b": 20}
    engine.go.set()
    summary = await running
    assert (summary.succeeded, summary.failed) == (220, 2) and answered(job) == {"a": 200, "b": 20}
    errors = [json.loads(line)["error"]["line"] for line in job.errors.read_text().splitlines()]
    assert sorted(errors) == [221, 222]


async def test_a_model_that_stops_is_told_of_when_the_others_are_done(
    job: Job, client: Callable[[], PoolClient], engine: Engine
) -> None:
    two_models(job.inputs[0], first="forbidden")
    engine.go.set()
    with pytest.raises(RunStopped, match="API key"):
        await run(job, client())
    assert answered(job) == {"b": 20} and len(job.errors.read_text().splitlines()) == 2


async def test_each_model_is_told_its_own_queue_and_the_others_of_all(
    job: Job, client: Callable[[], PoolClient], engine: Engine
) -> None:
    two_models(job.inputs[0])
    engine.go.set()
    used = client()
    await run(job, used)
    loads = (ReplicaLoad(running=5, waiting=9), ReplicaLoad(running=1, waiting=2, interactive=3))
    for pool, load in zip(used._pools.values(), loads, strict=True):
        pool.update([Published(one.id, one.info, load) for one in pool.replicas])
    seen = {model: await used.load(model) for model in ("m", "n", None)}
    assert seen == {"m": ServiceLoad(5, 9, 3), "n": ServiceLoad(1, 2, 3), None: ServiceLoad(6, 11, 3)}
    assert await used.load("unknown") is None


async def test_what_was_not_foreseen_of_a_line_ends_that_line(
    job: Job, client: Callable[[], PoolClient], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.go.set()
    used = client()
    send = used.send

    async def failing(url: str, body: bytes) -> ServiceResponse:
        if b'"b"' in body:
            raise RecursionError("/a/path")
        return await send(url, body)

    monkeypatch.setattr(used, "send", failing)
    job.inputs[0].write_bytes(lines(({"model": "m", "prompt": one} for one in "abc"), "/v1/completions"))
    summary = await run(job, used)
    (error,) = map(json.loads, job.errors.read_text().splitlines())
    assert answered(job) == {"a": 1, "c": 1} and summary.errors == {"internal_error": 1}
    assert error["custom_id"] == "1" and "RecursionError" in error["error"]["message"]
    assert "/a/path" not in job.errors.read_text()


async def test_lines_of_any_size_are_open_in_bounded_memory(
    job: Job, client: Callable[[], PoolClient], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_queue, "MOST_OPEN_BYTES", 10_000)
    bodies = [{"model": "m", "prompt": "a" * 4000}] * 8 + [{"model": "m", "prompt": "b" * 20_000}] * 2
    job.inputs[0].write_bytes(lines(bodies, "/v1/completions"))
    seen: list[int] = []
    used = client()
    running = asyncio.create_task(run(job, used, progress=lambda summary: seen.append(used.open["m"])))
    while len(engine.prompts) < 3:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert len(engine.prompts) == 3
    engine.go.set()
    assert (await running).succeeded == 10 and max(seen) <= 3


async def test_a_disk_that_takes_its_time_holds_up_nothing_but_the_end(
    job: Job, client: Callable[[], PoolClient], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncing, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(journal: Journal) -> None:
        loop.call_soon_threadsafe(syncing.set)
        go_on.wait()

    monkeypatch.setattr(Journal, "sync", slow)
    monkeypatch.setattr(runner, "SYNC_S", 0.0)
    done = asyncio.Event()
    running = asyncio.create_task(run(job, client(), progress=lambda seen: done.set() if seen.done == 20 else None))
    await syncing.wait()
    engine.go.set()
    await asyncio.wait_for(done.wait(), 10)
    assert not running.done()
    go_on.set()
    assert (await running).succeeded == 20


async def test_what_the_disk_refuses_ends_the_run(
    job: Job, client: Callable[[], PoolClient], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end too, when all lines are written."""

    def broken(journal: Journal) -> None:
        raise JournalError("the disk is broken")

    monkeypatch.setattr(Journal, "sync", broken)
    engine.go.set()
    for sync_s in (0.0, 60.0):
        monkeypatch.setattr(runner, "SYNC_S", sync_s)
        with pytest.raises(JournalError, match="broken"):
            await run(job, client())


async def test_a_run_that_is_cancelled_closes_its_files_after_the_disk_is_done_with_them(
    job: Job, client: Callable[[], PoolClient], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, syncing, go_on = Journal.sync, asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(journal: Journal) -> None:
        loop.call_soon_threadsafe(syncing.set)
        go_on.wait()
        sync(journal)

    monkeypatch.setattr(Journal, "sync", slow)
    monkeypatch.setattr(runner, "SYNC_S", 0.0)
    running = asyncio.create_task(run(job, client()))
    await syncing.wait()
    running.cancel()
    await asyncio.sleep(0.05)
    assert not running.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    engine.go.set()
    assert (await run(job, client())).total == 20


def counted_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the lines that the reader has come to."""
    read: list[int] = []

    def reading(files: Sequence[Path]) -> Iterator[InputLine]:
        for line in read_input(files):
            read.append(line.number)
            yield line

    monkeypatch.setattr(runner, "read", reading)
    return read


async def test_the_input_is_read_once_and_no_further_than_a_model_needs(
    job: Job, client: Callable[[], PoolClient], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of `n` begin behind 200 of `m`, and nothing but 30 more of `m` comes after them."""
    bodies = [{"model": model, "prompt": model} for model in ["m"] * 200 + ["n"] * 20 + ["m"] * 30]
    job.inputs[0].write_bytes(lines(bodies, "/v1/completions"))
    read = counted_reads(monkeypatch)
    running = asyncio.create_task(run(job, client(), lambda model: Pace(start=8, most=8)))
    async with asyncio.timeout(10):
        while len(engine.prompts) < 16:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert len(read) == 209, "both are full"
    engine.free.add("n")
    engine.go.set()
    assert (await running).succeeded == 250 and read == list(range(1, 251))
    assert engine.prompts[:8] == ["m"] * 8 and answered(job) == {"m": 230, "n": 20}


@pytest.mark.parametrize("packed", [False, True])
async def test_a_run_ends_where_one_with_backlogs_was_cancelled(
    job: Job, client: Callable[[], PoolClient], engine: Engine, packed: bool
) -> None:
    bodies = [{"model": "nm"[number % 5 == 0], "prompt": str(number)} for number in range(150)]
    content = lines(bodies, "/v1/completions")
    input = job.inputs[0].with_name("in.jsonl.gz" if packed else "in.jsonl")
    input.write_bytes(gzip.compress(content) if packed else content)
    job = replace(job, inputs=(input,))
    engine.free.add("n")
    enough = asyncio.Event()

    def see(summary: RunSummary) -> None:
        if summary.done == 90:
            enough.set()

    running = asyncio.create_task(run(job, client(), lambda model: Pace(start=8, most=8), progress=see))
    await asyncio.wait_for(enough.wait(), 10)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    engine.go.set()
    summary = await run(job, client(), lambda model: Pace(start=8, most=8))
    assert summary.before >= 90 and summary.done == 150
    assert answered(job) == Counter(str(number) for number in range(150))


async def test_backlogs_have_a_bound_beyond_which_a_full_model_holds_up_the_others(
    job: Job, client: Callable[[], PoolClient], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "MOST_BEHIND", 50)
    two_models(job.inputs[0])
    read = counted_reads(monkeypatch)
    engine.free.add("n")
    running = asyncio.create_task(run(job, client(), lambda model: Pace(start=8, most=8)))
    async with asyncio.timeout(10):
        while len(read) < 59:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert len(read) == 59 and answered(job) == {}
    engine.go.set()
    assert (await running).done == 222
