"""The API's objects as rows of SQLite, in the order in which they came."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

import msgspec

from serve_app.http.json_bytes import UNREADABLE

VERSION = 1
"""Of the schema, in SQLite's user_version."""
_TABLE = """
CREATE TABLE {name} (seq INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, kind TEXT NOT NULL, object TEXT NOT NULL);
CREATE INDEX {name}_kind ON {name} (kind);
"""


class HasId(Protocol):
    """An object of the API."""

    @property
    def id(self) -> str: ...


Item = TypeVar("Item", bound=HasId)


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some of a list, in the order asked for."""

    data: Sequence[Item]
    has_more: bool


class NewerSchema(Exception):
    """The database was written by a later version of this software."""


class Damaged(Exception):
    """The database holds what this software has not written."""


def connect(path: Path, tables: Sequence[str]) -> sqlite3.Connection:
    """Open or create a database that no other process can open until this one lets it go.

    Raises sqlite3.OperationalError, with SQLITE_BUSY where another has it, sqlite3.DatabaseError and Damaged where it
    is none or broken, and NewerSchema. Such a database is left as it is.
    """
    log = path.with_name(f"{path.name}-wal")
    if path.exists() and not path.stat().st_size and log.exists() and log.stat().st_size:
        raise Damaged(f"{path.name} is empty, but {log.name} is not: SQLite would delete what that holds")
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        with transaction(connection):
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise NewerSchema(f"{path.name} has schema {version}, and this version knows {VERSION}")
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise Damaged(found)
            if version == 0:
                for statement in "".join(_TABLE.format(name=name) for name in tables).split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, and on the disk at the end."""
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


class Table(Generic[Item]):
    """Objects of one type; `kind` is what they are looked up by beside their id."""

    def __init__(
        self, connection: sqlite3.Connection, name: str, type: type[Item], kind: Callable[[Item], str]
    ) -> None:
        self._connection = connection
        self._name = name
        self._type = type
        self._kind = kind

    def put(self, item: Item) -> None:
        """Insert it, or replace the one with its id in its place."""
        self._connection.execute(
            f"INSERT INTO {self._name} (id, kind, object) VALUES (?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, object = excluded.object",
            (item.id, self._kind(item), msgspec.json.encode(item).decode()),
        )

    def get(self, id: str) -> Item | None:
        """None where there is no such object."""
        found = self._select("WHERE id = ?", id)
        return found[0] if found else None

    def delete(self, id: str) -> None:
        self._connection.execute(f"DELETE FROM {self._name} WHERE id = ?", (id,))

    def of(self, *kinds: str) -> list[Item]:
        """All of these kinds, the oldest first; of all kinds unless any is given."""
        return self._select(f"{_among(kinds)} ORDER BY seq", *kinds)

    def counts(self) -> dict[str, int]:
        """How many there are of each kind."""
        return dict(self._connection.execute(f"SELECT kind, COUNT(*) FROM {self._name} GROUP BY kind"))

    def page(
        self,
        after: str | None,
        limit: int,
        order: Literal["asc", "desc"],
        kinds: Sequence[str] = (),
        key: str | None = None,
    ) -> Page[Item]:
        """`limit` objects that follow the one with the id `after`, of one key alone where that is given; KeyError where
        there is no such object."""
        where, arguments = _among(kinds) or "WHERE TRUE", list[object](kinds)
        of_key, keys = ("", ()) if key is None else (" AND json_extract(object, '$.key') = ?", (key,))
        where, arguments = where + of_key, [*arguments, *keys]
        if after is not None:
            at = self._connection.execute(
                f"SELECT seq FROM {self._name} WHERE id = ?{of_key}", (after, *keys)
            ).fetchone()
            if at is None:
                raise KeyError(after)
            where += " AND seq > ?" if order == "asc" else " AND seq < ?"
            arguments.append(at[0])
        found = self._select(f"{where} ORDER BY seq {order} LIMIT ?", *arguments, limit + 1)
        return Page(found[:limit], len(found) > limit)

    def _select(self, rest: str, *arguments: object) -> list[Item]:
        rows = self._connection.execute(f"SELECT object FROM {self._name} {rest}", arguments).fetchall()
        try:
            return [msgspec.json.decode(row[0], type=self._type) for row in rows]
        except UNREADABLE as error:
            raise Damaged(f"a row of the table {self._name} is none of ours: {error}") from None


def _among(kinds: Sequence[str]) -> str:
    return f"WHERE kind IN ({', '.join('?' * len(kinds))})" if kinds else ""
