"""What one batch costs the others: those that cannot go on hold up nobody, and say why."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from serve_app.batch import execution as execution_module
from serve_app.batch import worker as worker_module
from serve_app.batch.api.disk import DirectoryUnusable
from serve_app.batch.api.objects import FINAL, Batch, RequestCounts
from serve_app.batch.api.store import Store
from serve_app.batch.run.journal import DiskFull, Journal
from serve_app.batch.run.pooled import PoolClient
from serve_app.batch.worker import Worker
from serve_app.config import schema
from serve_app.routing.pool import ReplicaPool
from tests.support.batches import lines
from tests.unit.batch.conftest import Engine, add_batch, add_file

URL = "/v1/completions"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (execution_module, worker_module):
        monkeypatch.setattr(module, "AGAIN_S", 0.05)
    monkeypatch.setattr(execution_module, "STUCK_S", 0.1)
    monkeypatch.setattr(execution_module, "PROGRESS_S", 0.02)
    monkeypatch.setattr(worker_module, "LOOK_S", 0.05)


@pytest.fixture
def worker(store: Store, client: Callable[..., PoolClient]) -> Worker:
    lines = Counter("lines", "Lines.", ("outcome",), registry=CollectorRegistry())
    return Worker(store, client, schema.BatchConfig(directory="/unused", parallel_batches=1, max_open=8), lines)


async def until(store: Store, worker: Worker, condition: Callable[[Batch], bool], id: str = "batch_1") -> Batch:
    """The batch once the condition holds, while a worker runs."""
    running = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(20):
            while not condition(batch := await store.batch(id)):
                await asyncio.sleep(0.02)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return batch


def final(batch: Batch) -> bool:
    return batch.status in FINAL


async def test_a_batch_is_of_its_key_to_the_end(store: Store, worker: Worker, engine: Engine) -> None:
    engine.go.set()
    await add_file(store, lines([{"model": "m", "prompt": "a"}], URL))
    await add_batch(store, key="a")
    batch = await until(store, worker, final)
    assert batch.status == "completed" and engine.keys == {"a"}
    assert batch.output_file_id is not None and (await store.file(batch.output_file_id)).key == "a"


async def test_lines_of_any_kind_end_with_a_reason(store: Store, worker: Worker, engine: Engine) -> None:
    engine.go.set()
    deep = b"[" * 2000
    start = b'{"custom_id":"deep","method":"POST","url":"/v1/completions","body":{"model":"m","prompt":"a",'
    odd = [
        start + b'"foo":' + deep + b"}}",
        b'{"custom_id":"lone \\ud800","method":"POST"}',
        b'{"custom_id":"\xff"}',
        b'{"custom_id":"a\x00b"}',
        b'{"custom_id":' + b"9" * 5000 + b"}",
        start.replace(b"deep", b"number") + b'"seed":' + b"9" * 4000 + b"}}",
        b'{"custom_id":"list","method":"POST","url":"/v1/completions","body":["model"]}',
        b'{"custom_id":"' + b"x" * 100_000 + b'","method":"POST","url":"/v1/completions","body":{"model":"none"}}',
        b"\x00\x00",
    ]
    good = lines([{"model": "m", "prompt": "a"}], URL)
    await add_file(store, b"\xef\xbb\xbf" + good.rstrip() + b"\r\n\r\n" + b"\r\n".join(odd))
    await add_batch(store)
    batch = await until(store, worker, final)
    assert batch.status == "completed" and batch.request_counts.total == 10
    errors = [json.loads(line) for line in store.path(batch.error_file_id).read_bytes().splitlines()]
    told = {error["error"]["line"]: error["custom_id"] for error in errors}
    assert told.keys() >= {3, 4, 5, 6, 7, 9, 10, 11} and told[3] == "deep" and told[9] == "list"
    assert all(error["error"]["message"] for error in errors)
    assert str(store.path("")) not in store.path(batch.error_file_id).read_text()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\n \n", "empty_file"),
        ("{}\n".encode("utf-16"), "invalid_input"),
        (b"\x1f\x8b\x08rest", "invalid_input"),
        (lines([{}], URL) * 2, "duplicate_custom_id"),
    ],
)
async def test_an_input_that_cannot_be_used_is_told_without_the_servers_paths(
    store: Store, worker: Worker, content: bytes, code: str
) -> None:
    await add_file(store, content)
    await add_batch(store)
    batch = await until(store, worker, final)
    (problem,) = batch.errors.data
    assert (batch.status, problem.code) == ("failed", code) and batch.in_progress_at is None
    assert "/" not in problem.message and batch.failed_at


async def test_an_input_that_is_gone_fails_its_batch(store: Store, worker: Worker) -> None:
    await add_file(store, b"x")
    await add_batch(store)
    store.path("file-1").unlink()
    batch = await until(store, worker, final)
    assert batch.status == "failed" and batch.errors.data[0].message == "No such file or directory"
    await add_batch(store, "batch_2", expires_at=int(time.time()) - 1)
    assert (await until(store, worker, final, "batch_2")).status == "expired"


async def test_what_was_not_foreseen_ends_the_batch_after_some_tries(
    store: Store, worker: Worker, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is answered by then is kept, and the batches behind it have their turn."""
    engine.go.set()
    tries = 0
    real = execution_module.run

    async def failing(job: object, *rest: object, **more: object) -> object:
        nonlocal tries
        summary = await real(job, *rest, **more)
        if "batch_1" in str(job):
            tries += 1
            raise RecursionError("/a/path")
        return summary

    monkeypatch.setattr(execution_module, "run", failing)
    await add_file(store, lines([{"model": "m", "prompt": "a"}], URL))
    await add_batch(store)
    await add_batch(store, "batch_2")
    assert (await until(store, worker, final, "batch_2")).status == "completed"
    batch = await store.batch("batch_1")
    assert (batch.status, tries, batch.request_counts) == ("failed", 3, RequestCounts(1, 1, 0))
    (problem,) = batch.errors.data
    assert problem.code == "internal_error" and "RecursionError" in problem.message and "/a/path" not in problem.message
    assert store.path(batch.output_file_id).exists() and not store.work(batch).exists()


async def test_a_batch_that_cannot_even_be_finalized_is_failed(
    store: Store, worker: Worker, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(output: Path, errors: Path) -> None:
        raise ValueError("odd")

    engine.go.set()
    monkeypatch.setattr(execution_module, "tally", broken)
    await add_file(store, lines([{"model": "m", "prompt": "a"}], URL))
    await add_batch(store)
    batch = await until(store, worker, final)
    assert batch.status == "failed" and batch.errors.data[0].code == "internal_error"


async def test_another_batchs_output_is_not_waited_for(store: Store, worker: Worker, engine: Engine) -> None:
    await add_file(store, lines([{"model": "m", "prompt": "a"}], URL))
    batch = await add_batch(store)
    store.work(batch).mkdir()
    (store.work(batch) / "output.jsonl").write_bytes(b"not an answer\n")
    assert (await until(store, worker, final)).status == "failed"


async def test_a_batch_whose_engines_do_not_answer_says_so_and_holds_up_no_other(
    store: Store, worker: Worker, engine: Engine, client: Callable[..., PoolClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor when it has none to ask: the model is at zero replicas, or has lost its last."""
    engine.go.set()
    pool: ReplicaPool = client()._router.catalogue.served("n").pool
    pool.update([])
    for number, model in enumerate("nm", 1):
        await add_file(store, lines([{"model": model, "prompt": "a"}] * 3, URL), f"file-{number}")
        await add_batch(store, f"batch_{number}", input_file_id=f"file-{number}")
    assert (await until(store, worker, final, "batch_2")).status == "completed"
    batch = await until(store, worker, lambda batch: batch.waiting is not None)
    assert batch.waiting.code == "no_answer" and "'n'" in batch.waiting.message


async def test_a_batch_goes_on_when_the_disk_has_room_again(
    store: Store, worker: Worker, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.go.set()
    full = True
    add = Journal.add

    def adding(journal: Journal, index: int, line: bytes, failed: bool) -> None:
        if full:
            raise DiskFull("/a/path: No space left on device")
        add(journal, index, line, failed)

    monkeypatch.setattr(Journal, "add", adding)
    await add_file(store, lines([{"model": "m", "prompt": "a"}] * 3, URL))
    await add_batch(store)
    batch = await until(store, worker, lambda batch: batch.waiting is not None)
    assert batch.waiting.code == "disk_full" and "/a/path" not in batch.waiting.message
    full = False
    batch = await until(store, worker, final)
    assert batch.status == "completed" and batch.waiting is None and batch.request_counts == RequestCounts(3, 3, 0)


async def test_no_batch_is_begun_where_the_disk_has_too_little_room(
    store: Store, worker: Worker, engine: Engine
) -> None:
    engine.go.set()
    store.least_free = 2**60
    await add_file(store, lines([{"model": "m", "prompt": "a"}], URL))
    await add_batch(store)
    batch = await until(store, worker, lambda batch: batch.waiting is not None)
    assert batch.waiting.code == "disk_full" and not engine.prompts
    store.least_free = 0
    assert (await until(store, worker, final)).status == "completed"


async def test_batches_that_are_stuck_for_long_take_turns(
    store: Store, worker: Worker, engine: Engine, client: Callable[..., PoolClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two places in all, four batches of a model without replicas, and one behind them."""
    monkeypatch.setattr(worker_module, "PUT_OFF_S", 0.3)
    engine.go.set()
    client()._router.catalogue.served("n").pool.update([])
    for number, model in enumerate("nnnnm", 1):
        await add_file(store, lines([{"model": model, "prompt": "a"}] * 3, URL), f"file-{number}")
        await add_batch(store, f"batch_{number}", input_file_id=f"file-{number}")
    assert (await until(store, worker, final, "batch_5")).status == "completed"
    assert [batch.status for batch in await store.unfinished()].count("failed") == 0
    assert len(await store.unfinished()) == 4


async def test_a_store_that_cannot_be_read_any_more_ends_the_worker(store: Store, worker: Worker) -> None:
    store._connection.execute("DROP TABLE batch")
    with pytest.raises(DirectoryUnusable):
        await asyncio.wait_for(worker.run(), 10)
