"""The disk under the batch directory: its room, moves that survive a power cut, and what its errors mean."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
from pathlib import Path

from serve_app.batch.api.database import Damaged, NewerSchema

RESERVE_BYTES = 4 * 2**20
"""SQLite's write-ahead log at its longest."""
DAMAGED = (
    "the database batch.sqlite3 is damaged ({}). Nothing was changed: restore it, or move it away with its -wal file "
    "to begin with a new one, beside which all files stay"
)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class DirectoryTaken(Exception):
    """Another process has the batch directory."""


class DirectoryUnusable(Exception):
    """The batch directory cannot be used, now or until somebody repairs it; the text says why and what to do."""

    def __init__(self, directory: Path, reason: str) -> None:
        super().__init__(f"batch.directory: {directory}: {reason}")
        self.reason = reason
        """Without the path, which is not for clients."""


class StoreFull(Exception):
    """The disk has no room, not even the reserve."""


class Reserve:
    """A file of RESERVE_BYTES that is removed when the disk is full, so that a deletion has room for its record."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "reserve"

    def free(self) -> int:
        """Bytes that are left on the disk. Raises OSError."""
        return shutil.disk_usage(self._directory).free

    def take(self) -> None:
        """Have it, where the disk has twice its size."""
        with contextlib.suppress(OSError):
            if self._path.exists() or self.free() < 2 * RESERVE_BYTES:
                return
            descriptor = os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            except OSError:
                self._path.unlink(missing_ok=True)
            finally:
                os.close(descriptor)

    def give_up(self) -> bool:
        """Whether there was one to remove."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True


def move(contents: Path, to: Path) -> None:
    """Put finished contents in their place; they survive a power cut from here on."""
    _sync(contents)
    contents.replace(to)
    _sync(to.parent)


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_full(error: BaseException) -> bool:
    """Whether an error of SQLite's or the system's says that the disk is full."""
    if isinstance(error, sqlite3.OperationalError):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def meaning(directory: Path, error: Exception) -> Exception:
    """What to raise for an error that the directory or its database gave."""
    if is_full(error):
        return StoreFull("the disk is full")
    if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode in _LOCKED:
        return DirectoryTaken(f"another service uses {directory}")
    if isinstance(error, OSError):
        return DirectoryUnusable(directory, error.strerror or type(error).__name__)
    if isinstance(error, NewerSchema):
        return DirectoryUnusable(directory, str(error))
    if isinstance(error, Damaged) or type(error) is sqlite3.DatabaseError:
        return DirectoryUnusable(directory, DAMAGED.format(error))
    return DirectoryUnusable(directory, f"SQLite says {error}") if isinstance(error, sqlite3.Error) else error
