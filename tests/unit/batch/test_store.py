"""What is on disk after anything."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from serve_app.batch.store import Store, Taken, Unusable, output_ids
from tests.unit.batch.conftest import add_batch, add_file


async def test_everything_is_there_after_the_process_was_killed(tmp_path: Path) -> None:
    script = (
        "import asyncio, os, sys; from pathlib import Path; from serve_app.batch.store import Store;"
        "from tests.unit.batch.conftest import add_batch, add_file\n"
        "async def main():\n"
        "    store = Store.open(Path(sys.argv[1])); await add_file(store, b'text'); await add_batch(store)\n"
        "    store.incoming().write_bytes(b'half'); (Path(sys.argv[1]) / 'files' / 'no-row').write_bytes(b'x')\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=60, check=False)
    assert ended.returncode == -9
    store = Store.open(tmp_path)
    assert (await store.file("file-1")).bytes == 4 and store.path("file-1").read_bytes() == b"text"
    assert [batch.id for batch in await store.unfinished()] == ["batch_1"]
    assert not list((tmp_path / "incoming").iterdir()) and not store.path("no-row").exists()
    await store.close()


async def test_one_process_at_a_time_has_the_directory(tmp_path: Path) -> None:
    first = Store.open(tmp_path)
    with pytest.raises(Taken):
        Store.open(tmp_path)
    code = f"from pathlib import Path; from serve_app.batch.store import Store; Store.open(Path({str(tmp_path)!r}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "Taken" in other.stderr
    await first.close()
    await Store.open(tmp_path).close()


async def test_what_cannot_be_used_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unusable, match=r"Not a directory|File exists"):
        Store.open(tmp_path / "file")
    await Store.open(tmp_path / "new").close()
    with sqlite3.connect(tmp_path / "new" / "batch.sqlite3") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(Unusable, match="schema 99"):
        Store.open(tmp_path / "new")


async def test_an_output_in_its_place_outlives_a_crash_before_its_row(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    await add_file(store, b"text")
    batch = await add_batch(store, status="finalizing")
    output, _ = output_ids(batch.id)
    store.path(output).write_bytes(b"answers")
    await store.close()
    store = Store.open(tmp_path)
    assert store.path(output).read_bytes() == b"answers"
    await store.change(batch.id, lambda one: replace(one, status="completed"))
    await store.close()
    await Store.open(tmp_path).close()
    assert not store.path(output).exists()


async def test_pages_follow_the_order_of_creation(store: Store) -> None:
    for number in range(5):
        await add_file(store, b"x", f"file-{number}")
    first = await store.files(None, 2, "desc", None)
    assert [file.id for file in first.data] == ["file-4", "file-3"] and first.has_more
    rest = await store.files("file-3", 3, "desc", "batch")
    assert [file.id for file in rest.data] == ["file-2", "file-1", "file-0"] and not rest.has_more
    assert [file.id for file in (await store.files("file-3", 9, "asc", None)).data] == ["file-4"]
    assert not (await store.files(None, 9, "asc", "other")).data
    with pytest.raises(KeyError):
        await store.files("gone", 1, "asc", None)


async def test_a_file_expires_unless_a_batch_reads_it(store: Store) -> None:
    await add_file(store, b"x", "file-1", expires_at=2)
    await add_file(store, b"x", "file-2", expires_at=2)
    await add_batch(store, input_file_id="file-1")
    assert await store.file("file-2") is None
    await store.expire_files(3)
    assert store.path("file-1").exists() and not store.path("file-2").exists()
