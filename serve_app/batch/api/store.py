"""Files and batches on disk: contents as files, everything else in SQLite, under one directory.

    batch.sqlite3     what there is
    files/ID          contents of a file
    incoming/         uploads under way; ID.adding while a file gets its row
    work/BATCH_ID/    a batch that runs: its output so far
    reserve           room for rows when the disk is full

A file's contents are complete on disk before its row is there, and gone before the row is. What a crash leaves of an
upload the next start removes; any other contents that the database does not know stay, for it may be the database that
is not the right one. One process at a time has the directory: it holds SQLite's lock
as long as it lives, on a shared file system too. SQLite keeps its write-ahead log's index in memory then, not in a
shared mapping, which network file systems do not have (https://sqlite.org/wal.html#noshm).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

from serve_app.batch.api.database import Damaged, Page, Table, connect, transaction
from serve_app.batch.api.disk import DirectoryUnusable, Reserve, StoreFull, is_full, meaning, move
from serve_app.batch.api.objects import FINAL, STATUSES, Batch, File

T = TypeVar("T")
DATABASE = "batch.sqlite3"
ADDING = ".adding"

logger = logging.getLogger("ray.serve")


class Store:
    """What the Batch API keeps. Every method but `open` runs its SQLite on the store's own thread, one at a time."""

    def __init__(self, directory: Path, connection: sqlite3.Connection, least_free: int) -> None:
        self.least_free = least_free
        """Bytes of the disk that uploads leave free."""
        self.reserve = Reserve(directory)
        self._directory = directory
        self._connection = connection
        self._thread = ThreadPoolExecutor(1, "batch-store")
        self._files = Table(connection, "file", File, lambda file: file.purpose)
        self._batches = Table(connection, "batch", Batch, lambda batch: batch.status)

    @classmethod
    def open(cls, directory: Path, least_free: int = 0) -> Store:
        """Take the directory, and clear away what a crash left; raises DirectoryTaken or DirectoryUnusable. Blocks."""
        reserve = Reserve(directory)
        try:
            return cls._open(directory, least_free)
        except Exception as error:
            if not is_full(error) or not reserve.give_up():
                raise meaning(directory, error) from error
        try:
            return cls._open(directory, least_free)
        except Exception as error:
            raise meaning(directory, error) from error

    @classmethod
    def _open(cls, directory: Path, least_free: int) -> Store:
        for folder in ("", "files", "incoming", "work"):
            (directory / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = connect(directory / DATABASE, ("file", "batch"))
        try:
            store = cls(directory, connection, least_free)
            store._sweep()
        except BaseException:
            connection.close()
            raise
        store.reserve.take()
        return store

    async def close(self) -> None:
        """Let the directory go."""
        with contextlib.suppress(DirectoryUnusable, StoreFull):
            await self._run(self._connection.close)
        self._thread.shutdown()

    def room(self) -> int:
        """Bytes that an upload may have. Raises OSError."""
        return self.reserve.free() - self.least_free

    # files

    def path(self, id: str) -> Path:
        """Where the contents of a file are."""
        return self._directory / "files" / id

    def incoming(self) -> Path:
        """A place for contents that are on their way."""
        return self._directory / "incoming" / uuid.uuid4().hex

    async def add_file(self, contents: Path, file: File) -> None:
        """Keep these contents, which are on disk, as this file."""

        adding = self._directory / "incoming" / f"{file.id}{ADDING}"

        def add() -> None:
            adding.touch()
            if not self.path(file.id).exists():
                move(contents, self.path(file.id))
            self._files.put(file)
            adding.unlink()

        try:
            await self._run(add)
        except (StoreFull, DirectoryUnusable):
            for path in (self.path(file.id), adding):
                path.unlink(missing_ok=True)
            raise

    async def file(self, id: str) -> File | None:
        """A file that has not expired."""
        file = await self._run(self._files.get, id)
        return None if file is None or _expired(file, time.time()) else file

    async def files(
        self,
        after: str | None,
        limit: int,
        order: Literal["asc", "desc"],
        purpose: str | None = None,
        key: str | None = None,
    ) -> Page[File]:
        """Files by age, of one key alone where that is given; raises KeyError when `after` is not there."""
        return await self._run(self._files.page, after, limit, order, (purpose,) if purpose else (), key)

    async def delete_file(self, id: str) -> None:
        """Forget it and its contents, which on a full disk makes the room for its row to go."""

        def delete() -> None:
            self.path(id).unlink(missing_ok=True)
            self._files.delete(id)

        await self._run(delete)

    async def expire_files(self, now: float) -> None:
        """Delete the files whose time is over and that no unfinished batch reads."""
        used = {batch.input_file_id for batch in await self.unfinished()}
        for file in await self._run(self._files.of):
            if _expired(file, now) and file.id not in used:
                await self.delete_file(file.id)

    # batches

    def work(self, batch: Batch) -> Path:
        """The folder a running batch has to itself."""
        return self._directory / "work" / batch.id

    async def add_batch(self, batch: Batch) -> None:
        """Remember a new batch."""
        await self._run(self._batches.put, batch)

    async def batch(self, id: str) -> Batch | None:
        """The batch with this id."""
        return await self._run(self._batches.get, id)

    async def batches(self, after: str | None, limit: int, key: str | None = None) -> Page[Batch]:
        """Batches, the newest first, of one key alone where that is given; raises KeyError when `after` is not
        there."""
        return await self._run(self._batches.page, after, limit, "desc", (), key)

    async def unfinished(self) -> list[Batch]:
        """Batches that are not final, the oldest first."""
        return await self._run(self._unfinished)

    async def counts(self) -> dict[str, int]:
        """Batches by status."""
        return await self._run(self._batches.counts)

    async def change(self, id: str, change: Callable[[Batch], Batch]) -> Batch:
        """Change a batch as it is now; the changed one. `change` may return it as it is."""

        def apply() -> Batch:
            before = self._batches.get(id)
            assert before is not None, id
            after = change(before)
            if after != before:
                self._batches.put(after)
            return after

        return await self._run(apply)

    async def finish(self, id: str, change: Callable[[Batch], Batch], outputs: Sequence[File]) -> Batch:
        """Change a batch and keep its outputs, whose contents are in their places, all or nothing."""

        def apply() -> Batch:
            before = self._batches.get(id)
            assert before is not None, id
            after = change(before)
            with transaction(self._connection):
                for file in outputs:
                    self._files.put(file)
                self._batches.put(after)
            shutil.rmtree(self.work(after), ignore_errors=True)
            return after

        return await self._run(apply)

    # inside

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        """The function's result. Where it had no room and the reserve gives some, it is called again.

        Raises StoreFull and DirectoryUnusable.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._now, function, *arguments)

    def _now(self, function: Callable[..., T], *arguments: object) -> T:
        try:
            try:
                return function(*arguments)
            except (sqlite3.Error, OSError) as error:
                if not is_full(error) or not self.reserve.give_up():
                    raise
            return function(*arguments)
        except (sqlite3.Error, OSError, Damaged) as error:
            raise meaning(self._directory, error) from error

    def _unfinished(self) -> list[Batch]:
        return self._batches.of(*(status for status in STATUSES if status not in FINAL))

    def _sweep(self) -> None:
        """Remove what a crash left of uploads and of batches that have ended; tell of other contents without a row."""
        known = {file.id for file in self._files.of()}
        for upload in (self._directory / "incoming").iterdir():
            if upload.suffix == ADDING and upload.stem not in known:
                self.path(upload.stem).unlink(missing_ok=True)
            upload.unlink()
        batches = {batch.id: batch for batch in self._batches.of()}
        for folder in (self._directory / "work").iterdir():
            if folder.name in batches and batches[folder.name].status in FINAL:
                shutil.rmtree(folder)
        coming = {id for batch in batches.values() if batch.status not in FINAL for id in output_ids(batch.id)}
        strange = [
            *({path.name for path in (self._directory / "files").iterdir()} - known - coming),
            *({path.name for path in (self._directory / "work").iterdir()} - batches.keys()),
        ]
        if strange:
            logger.error(
                "%s: %d files or batches (%s, ...) are not in batch.sqlite3, and are kept. If that was lost or "
                "emptied, restore it; if they are of no use, delete them from files/ and work/",
                self._directory,
                len(strange),
                min(strange),
            )


def output_ids(batch_id: str) -> tuple[str, str]:
    """Ids of a batch's output and error file: known beforehand, so that giving them their contents can be repeated."""
    number = batch_id.removeprefix("batch_")
    return f"file-{number}-output", f"file-{number}-error"


def _expired(file: File, now: float) -> bool:
    return file.expires_at is not None and file.expires_at <= now
