"""Engines that start at once with a cold cache."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from serve_app.engine.first_start import alone_if_first


class Starts:
    """How many start at the same time."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.now = self.most = 0

    async def one(self, facts: object = "model", fails: bool = False) -> None:
        async with alone_if_first(self.cache, facts, longest_s=20):
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.05)
            self.now -= 1
            if fails:
                raise RuntimeError("no")


async def test_the_first_starts_alone_and_the_others_together(tmp_path: Path) -> None:
    starts = Starts(tmp_path)
    first = asyncio.create_task(starts.one())
    await asyncio.sleep(0.01)
    others = [asyncio.create_task(starts.one()) for _ in range(3)]
    await first
    assert starts.most == 1
    await asyncio.gather(*others)
    assert starts.most > 1


async def test_with_a_warm_cache_nobody_waits(tmp_path: Path) -> None:
    starts = Starts(tmp_path)
    await starts.one()
    await asyncio.gather(*(starts.one() for _ in range(4)))
    assert starts.most == 4


async def test_another_model_does_not_wait(tmp_path: Path) -> None:
    starts = Starts(tmp_path)
    await asyncio.gather(starts.one("this"), starts.one("that"))
    assert starts.most == 2


async def test_one_that_fails_gives_its_place_to_the_next(tmp_path: Path) -> None:
    starts = Starts(tmp_path)
    found = await asyncio.gather(starts.one(fails=True), starts.one(), return_exceptions=True)
    assert isinstance(found[0], RuntimeError) and found[1] is None and starts.most == 1


async def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    async with alone_if_first(tmp_path, "model"):
        async with asyncio.timeout(5):
            async with alone_if_first(tmp_path, "model", longest_s=0.1):
                pass


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
async def test_a_cache_that_cannot_be_written_is_warm(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    async with alone_if_first(tmp_path, "model"):
        pass


async def test_a_cache_below_a_file_is_warm(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with alone_if_first(tmp_path / "file", "model"):
        pass
