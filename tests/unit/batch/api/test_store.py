"""What is on disk after anything."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from serve_app.batch.api.disk import DirectoryTaken, DirectoryUnusable, StoreFull
from serve_app.batch.api.store import Store, output_ids
from tests.unit.batch.conftest import add_batch, add_file


async def test_everything_is_there_after_the_process_was_killed(tmp_path: Path) -> None:
    script = (
        "import asyncio, os, sys; from pathlib import Path; from serve_app.batch.api.store import Store;"
        "from tests.unit.batch.conftest import add_batch, add_file\n"
        "async def main():\n"
        "    store = Store.open(Path(sys.argv[1])); await add_file(store, b'text'); await add_batch(store)\n"
        "    store.incoming().write_bytes(b'half'); (Path(sys.argv[1]) / 'files' / 'no-row').write_bytes(b'x')\n"
        "    (Path(sys.argv[1]) / 'incoming' / 'no-row.adding').touch()\n"
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
    with pytest.raises(DirectoryTaken):
        Store.open(tmp_path)
    code = f"from pathlib import Path; from serve_app.batch.api.store import Store; Store.open(Path({str(tmp_path)!r}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "DirectoryTaken" in other.stderr
    await first.close()
    await Store.open(tmp_path).close()


async def test_what_cannot_be_used_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DirectoryUnusable, match=r"Not a directory|File exists"):
        Store.open(tmp_path / "file")
    await Store.open(tmp_path / "new").close()
    with sqlite3.connect(tmp_path / "new" / "batch.sqlite3") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(DirectoryUnusable, match="schema 99"):
        Store.open(tmp_path / "new")


@pytest.mark.parametrize("emptied", ["removed", "truncated", "new"])
async def test_what_another_database_knew_is_kept_and_told_of(
    tmp_path: Path, emptied: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Uploads, outputs and what is answered of batches that ran: the database may be the one that is lost."""
    store = Store.open(tmp_path)
    await add_file(store, b"text")
    batch = await add_batch(store)
    store.work(batch).mkdir()
    (store.work(batch) / "output.jsonl").write_bytes(b"answers")
    store.path(output_ids("batch_0")[0]).write_bytes(b"older answers")
    await store.close()
    database = tmp_path / "batch.sqlite3"
    kept = database.read_bytes()
    database.unlink()
    if emptied == "truncated":
        database.touch()
    elif emptied == "new":
        await Store.open(tmp_path / "new").close()
        (tmp_path / "new" / "batch.sqlite3").rename(database)
    for _ in range(2):
        store = Store.open(tmp_path)
        assert "not in batch.sqlite3, and are kept" in caplog.text and await store.file("file-1") is None
        assert store.path("file-1").read_bytes() == b"text"
        assert store.path(output_ids("batch_0")[0]).exists() and (store.work(batch) / "output.jsonl").exists()
        await add_file(store, b"new", "file-2")
        await store.close()
    database.write_bytes(kept)
    store = Store.open(tmp_path)
    assert (await store.file("file-1")).bytes == 4 and store.path("file-2").read_bytes() == b"new"
    await store.close()


@pytest.mark.parametrize("part", ["header", "page", "row", "log"])
async def test_a_damaged_database_is_told_of_and_left_alone(tmp_path: Path, part: str) -> None:
    store = Store.open(tmp_path)
    for number in range(40):
        await add_file(store, b"text", f"file-{number}")
    if part == "row":
        store._connection.execute("UPDATE file SET object = '{' WHERE id = 'file-1'")
    log = tmp_path / "batch.sqlite3-wal"
    written = log.read_bytes()
    await store.close()
    database = tmp_path / "batch.sqlite3"
    content = bytearray(database.read_bytes())
    if part == "header":
        content[:100] = b"x" * 100
    elif part == "page":
        content[4096:] = b"\xff" * (len(content) - 4096)
    elif part == "log":
        content = bytearray()
        log.write_bytes(written)
    database.write_bytes(content)
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for _ in range(2):
        with pytest.raises(DirectoryUnusable, match=r"batch\.sqlite3.* is damaged") as refused:
            Store.open(tmp_path)
        assert str(tmp_path) not in refused.value.reason and "restore" in refused.value.reason
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


async def test_a_database_that_breaks_while_it_is_used_is_told_of(store: Store, tmp_path: Path) -> None:
    await add_file(store, b"text")
    store._connection.execute("UPDATE file SET object = '[]'")
    with pytest.raises(DirectoryUnusable, match="damaged"):
        await store.file("file-1")
    store._connection.execute("DROP TABLE batch")
    with pytest.raises(DirectoryUnusable, match="no such table"):
        await store.unfinished()


async def test_a_transaction_that_finds_no_room_leaves_none_open(store: Store) -> None:
    await add_file(store, b"text")
    batch = await add_batch(store)
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    large = "x" * 100_000
    for _ in range(2):
        with pytest.raises(StoreFull):
            await store.finish(batch.id, lambda one: replace(one, metadata={"a": large}), [])
        with pytest.raises(StoreFull):
            await add_file(store, b"x", "file-2", status=large)
    assert (
        not list((store._directory / "incoming").iterdir()) and len(list((store._directory / "files").iterdir())) == 1
    )
    store._connection.execute("PRAGMA max_page_count = 100000")
    assert (await store.finish(batch.id, lambda one: replace(one, status="completed"), [])).status == "completed"


async def test_a_full_disk_is_freed_by_deleting(tmp_path: Path) -> None:
    """On a real disk of 16 MiB, in a mount namespace of its own."""
    mount = f"mount -t tmpfs -o size=16m tmpfs {tmp_path} && exec {sys.executable} - {tmp_path}"
    command = ["unshare", "-Urm", "sh", "-c", mount]
    done = subprocess.run(command, input=FILL, capture_output=True, text=True, timeout=60, check=False)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("no mount namespaces here")
    assert done.returncode == 0, done.stderr


FILL = """
import asyncio, os, sys
from pathlib import Path
from serve_app.batch.api.store import Store
from serve_app.batch.api.disk import StoreFull
from tests.unit.batch.conftest import add_batch, add_file

async def main():
    directory = Path(sys.argv[1])
    store = Store.open(directory, 2**20)
    assert (directory / "reserve").stat().st_size == 4 * 2**20
    for number in range(4):
        await add_file(store, b"x" * 10_000, f"file-{number}")
    batch = await add_batch(store)
    with open(directory / "other", "wb", buffering=0) as other:
        try:
            while True:
                other.write(bytes(2**12))
        except OSError:
            pass
        os.fsync(other.fileno())
    assert store.room() < 0
    for number in range(60):
        await store.change(batch.id, lambda one: type(one)(**{**{f: getattr(one, f) for f in one.__struct_fields__},
            "metadata": {"n": str(number)}}))
    assert not (directory / "reserve").exists(), "it made room for rows"
    with open(directory / "other", "ab", buffering=0) as other:
        try:
            while True:
                other.write(bytes(2**10))
        except OSError:
            pass
    for number in range(4):
        await store.delete_file(f"file-{number}")
    assert not (await store.files(None, 10, "asc", None)).data
    (directory / "other").unlink()
    store.reserve.take()
    assert (directory / "reserve").exists()
    await store.close()
    Store.open(directory)

asyncio.run(main())
"""


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
