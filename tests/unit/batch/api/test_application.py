"""The directory taken, lost and taken again, and what clients see meanwhile."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from serve_app.batch.api import application as module
from serve_app.batch.api.application import BatchApplication, routes_over
from serve_app.batch.api.owners import Owners
from serve_app.batch.api.store import Store
from serve_app.config import schema
from tests.unit.batch.conftest import MOST_BYTES, add_file


class Served:
    """An API over a directory, as the batch replica has it, with a worker that only looks at the list."""

    def __init__(self, directory: Path) -> None:
        settings = schema.BatchConfig(directory=str(directory), min_free_mib=0)
        self.application = BatchApplication(settings, self._work)
        self.store: Store | None = None

    async def _work(self, store: Store) -> None:
        self.store = store
        self.application.app = routes_over(store, lambda: None, MOST_BYTES, Owners())
        while True:
            await store.unfinished()
            await asyncio.sleep(0.01)

    async def status(self, expected: int, path: str = "/v1/files") -> str:
        """The answer's text once the status is as expected."""
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.application), base_url="http://test") as http:
            async with asyncio.timeout(10):
                while (answer := await http.get(path)).status_code != expected:
                    await asyncio.sleep(0.01)
        return answer.text


@pytest.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr(module, "UNUSABLE_AGAIN_S", 0.05)
    monkeypatch.setattr(module, "TAKEN_AGAIN_S", 0.05)
    served = Served(tmp_path / "batch")
    yield served
    await served.application.close()


async def running(served: Served) -> asyncio.Task[None]:
    await served.application.open()
    return asyncio.create_task(served.application.run())


async def test_a_damaged_database_is_503_until_it_is_repaired(
    served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store.open(tmp_path / "batch")
    await add_file(store, b"text")
    await store.close()
    database = tmp_path / "batch" / "batch.sqlite3"
    good = database.read_bytes()
    database.write_bytes(b"no database" * 1000)
    task = await running(served)
    text = await served.status(503)
    assert "is damaged" in text and "restore it" in text and str(tmp_path) not in text
    await asyncio.sleep(0.3)
    assert not task.done() and caplog.text.count("answers 503") == 1 and str(tmp_path) in caplog.text
    (tmp_path / "copy").write_bytes(good)
    (tmp_path / "copy").rename(database)
    assert "file-1" in await served.status(200)
    task.cancel()


async def test_a_database_that_breaks_while_it_is_used_is_503_too(served: Served, tmp_path: Path) -> None:
    task = await running(served)
    await served.status(200)
    served.store._connection.execute("DROP TABLE batch")
    assert "no such table" in await served.status(503)
    (tmp_path / "batch" / "batch.sqlite3").unlink()
    await served.status(200)
    task.cancel()


async def test_a_directory_that_vanishes_is_made_again(served: Served, tmp_path: Path) -> None:
    task = await running(served)
    await served.status(200)
    shutil.rmtree(tmp_path / "batch")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(served.application), base_url="http://test") as http:
        form = {"data": {"purpose": "batch"}, "files": {"file": ("in.jsonl", b"x")}}
        answer = await http.post("/v1/files", **form)
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "batch_storage_failed", answer.text
        assert str(tmp_path) not in answer.text
    task.cancel()


@pytest.mark.parametrize("wrong", ["a file", "no permission"])
async def test_what_is_no_directory_of_its_own_is_503(
    served: Served, tmp_path: Path, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if wrong == "a file":
        (tmp_path / "batch").write_text("")
    else:

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied", "/a/path")

        monkeypatch.setattr(sqlite3, "connect", refuse)
    task = await running(served)
    text = await served.status(503)
    assert "cannot use its directory" in text and "/a/path" not in text and str(tmp_path) not in text
    task.cancel()


async def test_the_second_service_waits_for_the_first(served: Served, tmp_path: Path) -> None:
    first = Store.open(tmp_path / "batch")
    task = await running(served)
    text = await served.status(503)
    assert "another service" in text and str(tmp_path) not in text
    await first.close()
    await served.status(200)
    task.cancel()
