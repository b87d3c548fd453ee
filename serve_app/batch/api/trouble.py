"""What may be wrong with the batch directory, and what to do about it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from serve_app.batch.api.reserve import is_full
from serve_app.batch.api.table import Damaged, NewerSchema

DAMAGED = (
    "the database batch.sqlite3 is damaged ({}). Nothing was changed: restore it, or move it away with its -wal file "
    "to begin with a new one, beside which all files stay"
)
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class Taken(Exception):
    """Another process has the directory."""


class Unusable(Exception):
    """The directory cannot be used, now or until somebody repairs it; the text says why and what to do."""

    def __init__(self, directory: Path, reason: str) -> None:
        super().__init__(f"batch.directory: {directory}: {reason}")
        self.reason = reason
        """Without the path, which is not for clients."""


class Full(Exception):
    """The disk has no room, not even what was kept for this."""


def trouble(directory: Path, error: Exception) -> Exception:
    """What to raise for an error that the directory or its database gave."""
    if is_full(error):
        return Full("the disk is full")
    if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode in _LOCKED:
        return Taken(f"another service uses {directory}")
    if isinstance(error, OSError):
        return Unusable(directory, error.strerror or type(error).__name__)
    if isinstance(error, NewerSchema):
        return Unusable(directory, str(error))
    if isinstance(error, Damaged) or type(error) is sqlite3.DatabaseError:
        return Unusable(directory, DAMAGED.format(error))
    return Unusable(directory, f"SQLite says {error}") if isinstance(error, sqlite3.Error) else error
