"""A batch on its way to its end, over the real pool, forwarder and replica server."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from serve_app.batch.api.batches import cancelling
from serve_app.batch.api.objects import FINAL, Batch, RequestCounts
from serve_app.batch.api.store import Store, output_ids
from serve_app.batch.run import runner
from serve_app.batch.run.input import Scan
from serve_app.batch.run.journal import Journal
from serve_app.batch.run.pooled import PoolClient
from serve_app.batch.worker import Worker
from serve_app.config import schema
from tests.unit.batch.conftest import Engine, add_batch, add_file


def input(prompts: Iterable[str]) -> bytes:
    return b"".join(
        json.dumps(
            {
                "custom_id": f"id-{number}",
                "method": "POST",
                "url": "/v1/completions",
                "body": {"model": "m", "prompt": prompt},
            }
        ).encode()
        + b"\n"
        for number, prompt in enumerate(prompts)
    )


@pytest.fixture
def worker(store: Store, client: Callable[..., PoolClient]) -> Worker:
    lines = Counter("lines", "Lines.", ("outcome",), registry=CollectorRegistry())
    settings = schema.BatchConfig(directory="/unused", parallel_batches=2, max_open=8)
    return Worker(store, client, settings, lines)


async def ended(store: Store, worker: Worker, *ids: str) -> list[Batch]:
    """The batches, after a worker has brought them to their end."""
    running = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(20):
            for id in ids:
                while (await store.batch(id)).status not in FINAL:
                    await asyncio.sleep(0.02)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return [await store.batch(id) for id in ids]


def ids_in(store: Store, file_id: str | None) -> list[str]:
    lines = store.path(file_id).read_bytes().splitlines() if file_id else []
    return sorted(json.loads(line)["custom_id"] for line in lines)


async def test_answers_and_errors_become_files(store: Store, worker: Worker, engine: Engine) -> None:
    engine.go.set()
    await add_file(store, input(["a", "bad", "b"]) + b"not json\n")
    await add_batch(store)
    (batch,) = await ended(store, worker, "batch_1")
    assert batch.status == "completed" and batch.request_counts == RequestCounts(4, 2, 2)
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    assert (batch.usage.input_tokens, batch.usage.output_tokens) == (4, 6)
    assert ids_in(store, batch.output_file_id) == ["id-0", "id-2"]
    errors = [json.loads(line) for line in store.path(batch.error_file_id).read_bytes().splitlines()]
    assert sorted(error["error"]["line"] for error in errors) == [2, 4]
    assert (await store.file(batch.output_file_id)).purpose == "batch_output"


async def test_without_errors_there_is_no_error_file(store: Store, worker: Worker, engine: Engine) -> None:
    engine.go.set()
    await add_file(store, input("a"))
    await add_batch(store)
    (batch,) = await ended(store, worker, "batch_1")
    assert batch.error_file_id is None and not store.path(output_ids(batch.id)[1]).exists()


@pytest.mark.parametrize(
    ("content", "text"), [(input("a") + input("b"), "custom_id must not come twice"), (b"\n\n", "no lines")]
)
async def test_an_input_wrong_as_a_whole_fails_before_anything_is_sent(
    store: Store, worker: Worker, engine: Engine, content: bytes, text: str
) -> None:
    await add_file(store, content)
    await add_batch(store)
    (batch,) = await ended(store, worker, "batch_1")
    assert batch.status == "failed" and text in batch.errors.data[0].message
    assert not engine.prompts and batch.output_file_id is None


async def test_cancelling_keeps_what_is_answered(store: Store, worker: Worker, engine: Engine) -> None:
    engine.go.set()
    await add_file(store, input(map(str, range(40))))
    await add_batch(store)
    running = asyncio.create_task(ended(store, worker, "batch_1"))
    while len(engine.prompts) < 10:
        await asyncio.sleep(0.01)
    engine.go.clear()
    await asyncio.sleep(0.1)
    await store.change("batch_1", cancelling)
    worker.changed()
    (batch,) = await running
    assert batch.status == "cancelled" and batch.cancelled_at
    done = ids_in(store, batch.output_file_id)
    assert 0 < len(done) < 40 and len(done) == batch.request_counts.completed


async def test_a_batch_goes_on_where_a_worker_left_it(store: Store, worker: Worker, engine: Engine) -> None:
    engine.go.set()
    await add_file(store, input(map(str, range(60))))
    await add_batch(store)
    first = asyncio.create_task(worker.run())
    while len(engine.prompts) < 20:
        await asyncio.sleep(0.005)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert (await store.batch("batch_1")).status not in FINAL
    (batch,) = await ended(store, worker, "batch_1")
    assert batch.request_counts == RequestCounts(60, 60, 0)
    assert ids_in(store, batch.output_file_id) == sorted(f"id-{number}" for number in range(60))
    assert len(engine.prompts) < 60 + 20


async def test_an_expired_batch_names_what_was_left(store: Store, worker: Worker, engine: Engine) -> None:
    await add_file(store, input(map(str, range(12))))
    await add_batch(store, expires_at=int(time.time()) - 1)
    (batch,) = await ended(store, worker, "batch_1")
    assert batch.status == "expired" and batch.request_counts == RequestCounts(12, 0, 12)
    lines = store.path(batch.error_file_id).read_bytes().splitlines()
    assert {json.loads(line)["error"]["code"] for line in lines} == {"batch_expired"}


async def test_a_batch_expires_also_while_its_output_is_being_opened(
    store: Store, worker: Worker, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of that is left behind which would keep it from naming what was left."""
    opening, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class SlowJournal(Journal):
        def __init__(self, output: Path, errors: Path, scan: Scan) -> None:
            super().__init__(output, errors, scan)
            loop.call_soon_threadsafe(opening.set)
            go_on.wait()

    monkeypatch.setattr(runner, "Journal", SlowJournal)
    await add_file(store, input(map(str, range(3))))
    expires_at = int(time.time()) + 2
    await add_batch(store, expires_at=expires_at)
    running = asyncio.create_task(ended(store, worker, "batch_1"))
    await asyncio.wait_for(opening.wait(), 10)
    await asyncio.sleep(expires_at - time.time() + 0.1)
    go_on.set()
    (batch,) = await running
    assert batch.status == "expired" and batch.request_counts == RequestCounts(3, 0, 3)


@pytest.mark.parametrize("moved", [False, True])
async def test_finalizing_is_finished_after_a_crash(store: Store, worker: Worker, engine: Engine, moved: bool) -> None:
    """Its answers are kept, and nothing is sent again, whether or not they were in their place already."""
    await add_file(store, input("ab"))
    batch = await add_batch(store, status="finalizing", finalizing_at=5, request_counts=RequestCounts(2, 2, 0))
    contents = store.path(output_ids(batch.id)[0]) if moved else store.work(batch) / "output.jsonl"
    contents.parent.mkdir(exist_ok=True)
    contents.write_bytes(
        b'{"custom_id": "id-0", "response": {"body": {}}}\n{"custom_id": "id-1", "response": {"body": {}}}\n'
    )
    (batch,) = await ended(store, worker, "batch_1")
    assert batch.status == "completed" and batch.request_counts == RequestCounts(2, 2, 0) and batch.finalizing_at == 5
    assert ids_in(store, batch.output_file_id) == ["id-0", "id-1"] and not engine.prompts
    assert not store.work(batch).exists()


async def test_batches_share_the_engines(store: Store, worker: Worker, engine: Engine) -> None:
    """A small batch is done long before a large one that came first; a third waits."""
    await add_file(store, input(["large"] * 400), "file-1")
    await add_file(store, input(["small"] * 8), "file-2")
    await add_batch(store, "batch_1", input_file_id="file-1")
    await add_batch(store, "batch_2", input_file_id="file-2")
    await add_batch(store, "batch_3", input_file_id="file-2")
    engine.go.set()
    await ended(store, worker, "batch_2", "batch_3")
    assert engine.prompts.count("small") == 16 and engine.prompts.count("large") < 400
    assert (await store.batch("batch_1")).status not in FINAL


async def test_what_is_open_and_the_backlog_are_sequences(store: Store, worker: Worker, engine: Engine) -> None:
    lines = input(map(str, range(6))).replace(b'"prompt"', b'"n": 4, "prompt"')
    await add_file(store, b"{\n" + lines)
    await add_batch(store)
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(10):
        while len(engine.prompts) < 2:
            await asyncio.sleep(0.01)
    assert len(engine.prompts) == 2 and worker.backlog()["m"] == 4 * 4
    engine.go.set()
    async with asyncio.timeout(10):
        while (await store.batch("batch_1")).status not in FINAL:
            await asyncio.sleep(0.01)
    running.cancel()


async def test_the_backlog_is_as_much_again_as_is_open_and_no_more_than_is_left(
    store: Store, worker: Worker, engine: Engine
) -> None:
    await add_file(store, input(map(str, range(20))) + b"{\n")
    await add_batch(store)
    running = asyncio.create_task(worker.run())
    while len(engine.prompts) < 8:
        await asyncio.sleep(0.01)
    assert worker.backlog()["m"] <= 13
    engine.go.set()
    async with asyncio.timeout(10):
        while (batch := await store.batch("batch_1")).status not in FINAL:
            await asyncio.sleep(0.01)
    assert not any(worker.backlog().values()) and batch.request_counts == RequestCounts(21, 20, 1)
    running.cancel()
