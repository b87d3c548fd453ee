"""A run beside its disk."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from serve_app.batch import runner
from serve_app.batch.journal import Journal, JournalError
from serve_app.batch.pooled import PoolClient
from serve_app.batch.runner import Job, run
from tests.support.batches import lines
from tests.unit.batch.conftest import Engine


@pytest.fixture
def job(tmp_path: Path) -> Job:
    input = tmp_path / "in.jsonl"
    input.write_bytes(lines(({"model": "m", "prompt": "a"} for _ in range(20)), "/v1/completions"))
    return Job((input,), tmp_path / "out.jsonl", tmp_path / "errors.jsonl")


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
