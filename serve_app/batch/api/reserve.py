"""Room on a disk: how much is left, and some that is kept for what must work when there is none."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
from pathlib import Path

RESERVE_BYTES = 4 * 2**20
"""SQLite's write-ahead log at its longest."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


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


def is_full(error: BaseException) -> bool:
    """Whether an error of SQLite's or the system's says that the disk is full."""
    if isinstance(error, sqlite3.OperationalError):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in _NO_ROOM
