"""What each key has used, by day and model, in a SQLite file.

Replicas tell totals of their own (`serve_app.replica.ledger`), and a row is the last total that one of them told for a
day: to write it again changes nothing, so it does not matter who writes, how often, or what was written before. One
process of those that have the folder writes; where it ends, however it does, another goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import sqlite3
import time
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import IO, Any, NamedTuple

from serve_app.replica import ledger
from serve_app.replica.tally import DAY_S

WRITE_S = 0.5
COMPLAIN_S = 60.0
FILE, LOCK = "usage.sqlite", "usage.lock"
EPOCH = date(1970, 1, 1)
_TABLE = """
CREATE TABLE IF NOT EXISTS usage (
    day INTEGER, key TEXT, model TEXT, source TEXT,
    requests INTEGER NOT NULL, prompt INTEGER NOT NULL, cached INTEGER NOT NULL, output INTEGER NOT NULL,
    PRIMARY KEY (day, key, model, source)
) WITHOUT ROWID
"""
_PUT = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    requests = excluded.requests, prompt = excluded.prompt, cached = excluded.cached, output = excluded.output
"""
_ADD_UP = """
INSERT INTO usage
SELECT day, key, model, '', SUM(requests), SUM(prompt), SUM(cached), SUM(output) FROM usage
WHERE day < ? AND source != '' GROUP BY day, key, model
ON CONFLICT DO UPDATE SET
    requests = requests + excluded.requests, prompt = prompt + excluded.prompt,
    cached = cached + excluded.cached, output = output + excluded.output
"""

logger = logging.getLogger("ray.serve")


class DayUse(NamedTuple):
    """What one key has used of one model on one day."""

    day: date
    """In UTC."""
    key: str
    """Its name; empty for those without one."""
    model: str
    requests: int
    prompt: int
    """Tokens of prompts, cached ones included."""
    cached: int
    output: int


class UsageBook:
    """The file of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: IO[str] | None = None
        """Held by the process that writes."""
        self._database: sqlite3.Connection | None = None
        self._written: dict[tuple[int, str, str, str], tuple[int, ...]] = {}
        self._added_up = 0
        """The day before which each day is one row."""

    def write(self, facts: Mapping[str, Any], now: float) -> bool:
        """Note what replicas have told, by their names; False where another process does. Blocks.

        Raises OSError and sqlite3.Error where the file cannot be written.
        """
        if not self._is_writer():
            return False
        assert self._database is not None
        yesterday = int(now // DAY_S) - 1
        rows = {
            row: numbers for row, numbers in _rows(facts) if row[0] >= yesterday and self._written.get(row) != numbers
        }
        try:
            with self._database:
                self._database.executemany(_PUT, [(*row, *numbers) for row, numbers in rows.items()])
                if self._added_up != yesterday:
                    # Nobody tells of those days any more.
                    self._database.execute(_ADD_UP, (yesterday,))
                    self._database.execute("DELETE FROM usage WHERE day < ? AND source != ''", (yesterday,))
        except BaseException:
            self.close()
            raise
        self._written = {row: numbers for row, numbers in (self._written | rows).items() if row[0] >= yesterday}
        self._added_up = yesterday
        return True

    def read(self, first: date, last: date, key: str | None = None) -> list[DayUse]:
        """Of the days from `first` to `last`, of one key or of all. Blocks; raises sqlite3.Error."""
        if not (self._folder / FILE).exists():
            return []
        with contextlib.closing(sqlite3.connect(self._folder / FILE, timeout=5)) as database:
            rows = database.execute(
                "SELECT day, key, model, SUM(requests), SUM(prompt), SUM(cached), SUM(output) FROM usage"
                " WHERE day BETWEEN ?1 AND ?2 AND (?3 IS NULL OR key = ?3)"
                " GROUP BY day, key, model ORDER BY day, key, model",
                ((first - EPOCH).days, (last - EPOCH).days, key),
            ).fetchall()
        return [DayUse(EPOCH + timedelta(day), *rest) for day, *rest in rows]

    def close(self) -> None:
        """Let another process write."""
        if self._database is not None:
            self._database.close()
        if self._lock is not None:
            self._lock.close()
        self._database = self._lock = None
        self._written.clear()

    def _is_writer(self) -> bool:
        if self._lock is not None:
            return True
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = (self._folder / LOCK).open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock = lock
        try:
            self._database = sqlite3.connect(self._folder / FILE, timeout=5, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(_TABLE)
        except BaseException:
            self.close()
            raise
        return True


async def keep(book: UsageBook, app: str) -> None:
    """Write what an application's replicas tell, again and again. Never returns."""
    complained_at = -COMPLAIN_S
    while True:
        await asyncio.sleep(WRITE_S)
        try:
            await asyncio.to_thread(_note, book, app)
        except Exception as error:
            if time.monotonic() - complained_at > COMPLAIN_S:
                complained_at = time.monotonic()
                logger.warning("what keys use is not written at present, and made up for later: %r", error)


def _note(book: UsageBook, app: str) -> None:
    book.write(ledger.facts(app), time.time())


def _rows(facts: Mapping[str, Any]) -> Iterable[tuple[tuple[int, str, str, str], tuple[int, ...]]]:
    for source, fact in facts.items():
        for key, told in fact["keys"].items():
            for day, numbers in told["days"].items():
                yield (int(day), key, fact["model"], source), tuple(numbers)
