"""Accounts in a file, whoever writes them and however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.accounts.usage import EPOCH, DayUse, UsageBook
from serve_app.config.keys import UNNAMED, KeyConfig
from serve_app.http.pages import starlette_app
from serve_app.ingress.authentication import OWNER
from serve_app.ingress.usage import UsagePage

DAY = 20_000
NOON = DAY * 86_400 + 43_200.0
TODAY = EPOCH + timedelta(DAY)
ALWAYS = (date.min, date.max)


def told(day: int = DAY, requests: int = 1, output: int = 7, key: str = "a", model: str = "m") -> dict[str, Any]:
    """What a replica tells."""
    return {"model": model, "keys": {key: {"days": {str(day): [requests, 10, 4, output]}}}}


def test_replicas_add_up_and_what_is_told_again_counts_once(tmp_path: Path) -> None:
    book = UsageBook(tmp_path / "new")
    assert book.read(*ALWAYS) == []
    for output in (3, 7, 7):
        assert book.write({"one": told(output=output), "two": told(output=5), "b": told(key="b", model="n")}, NOON)
    assert book.read(*ALWAYS, "a") == [DayUse(TODAY, "a", "m", 2, 20, 8, 12)]
    assert [one.key for one in book.read(*ALWAYS)] == ["a", "b"]
    book.close()
    again = UsageBook(tmp_path / "new")
    again.write({"one": told(output=8)}, NOON)
    assert again.read(*ALWAYS, "a") == [DayUse(TODAY, "a", "m", 2, 20, 8, 13)]


def test_one_process_writes_and_another_when_it_has_ended(tmp_path: Path) -> None:
    first, second = UsageBook(tmp_path), UsageBook(tmp_path)
    assert first.write({}, NOON) and not second.write({"one": told()}, NOON)
    first.close()
    assert second.write({"one": told()}, NOON) and len(first.read(*ALWAYS)) == 1


def test_old_days_become_one_row_and_are_not_counted_again(tmp_path: Path) -> None:
    book = UsageBook(tmp_path)
    book.write({"one": told(), "two": told()}, NOON)
    for after in (1, 2, 3):
        book.write({"one": told(), "new": told(DAY + after, requests=after)}, NOON + after * 86_400)
    found = book.read(*ALWAYS)
    assert [(one.day - TODAY).days for one in found] == [0, 1, 2, 3] and [one.requests for one in found] == [2, 1, 2, 3]
    assert [one.day for one in book.read(TODAY + timedelta(1), TODAY + timedelta(2))] == [
        TODAY + timedelta(1),
        TODAY + timedelta(2),
    ]


def test_a_writer_that_is_killed_loses_nothing_that_it_wrote_and_blocks_nobody(tmp_path: Path) -> None:
    program = """
import sys, pathlib
from serve_app.accounts.usage import UsageBook
book, count = UsageBook(pathlib.Path(sys.argv[1])), 0
while True:
    count += 1
    days = {"20000": [count, 10, 4, count]}
    book.write({"one": {"model": "m", "keys": {"a": {"days": days}}}}, 20000 * 86400.0)
    print(count, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        last = [int(writer.stdout.readline()) for _ in range(50)][-1]
        other = UsageBook(tmp_path)
        assert not other.write({}, NOON)
        os.kill(writer.pid, signal.SIGKILL)
        last = max([last, *map(int, writer.stdout.read().split())])
    assert other.read(*ALWAYS)[0].requests in (last, last + 1)
    assert other.write({"one": told(requests=10**6)}, NOON) and other.read(*ALWAYS)[0].requests == 10**6


async def asked(book: UsageBook | None, owner: KeyConfig = UNNAMED, **params: str) -> httpx.Response:
    app = starlette_app(UsagePage(book).routes())

    async def owned(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, OWNER: owner}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(owned), base_url="http://a") as http:
        return await http.get("/v1/usage", params=params)


async def test_a_key_sees_its_own_and_an_admin_all(tmp_path: Path) -> None:
    book, today = UsageBook(tmp_path), int(time.time() // 86_400)
    book.write({"a": told(today), "b": told(today, key="b"), "": told(today, key="")}, time.time())
    own = (await asked(book, KeyConfig(name="a", key="k"))).json()
    assert own == {
        "object": "list",
        "data": [
            {
                "object": "usage",
                "day": (EPOCH + timedelta(today)).isoformat(),
                "key": "a",
                "model": "m",
                "requests": 1,
                "prompt_tokens": 10,
                "cached_tokens": 4,
                "output_tokens": 7,
            }
        ],
    }
    for owner in (UNNAMED, KeyConfig(name="c", key="k", admin=True)):
        assert [one["key"] for one in (await asked(book, owner)).json()["data"]] == [None, "a", "b"]
    assert (await asked(book, to="2000-01-01")).json()["data"] == []


@pytest.mark.parametrize("day", ["yesterday", "2026-13-01", "", "x" * 5000])
async def test_a_day_that_is_none_is_said_to_be(tmp_path: Path, day: str) -> None:
    error = (await asked(UsageBook(tmp_path), **{"from": day})).json()["error"]
    assert (error["code"], error["param"]) == ("invalid_value", "from") and len(error["message"]) < 300


async def test_without_accounts_it_is_said_how_to_have_them(tmp_path: Path) -> None:
    off = await asked(None)
    assert (off.status_code, off.json()["error"]["code"]) == (404, "usage_off")
    (tmp_path / "usage.sqlite").write_text("no database")
    assert (await asked(UsageBook(tmp_path))).status_code == 503
