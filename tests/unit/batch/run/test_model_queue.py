"""Lines that wait for room, read again from where they are."""

from __future__ import annotations

import codecs
import gzip
from pathlib import Path

import pytest

from serve_app.batch.run import input, model_queue
from serve_app.batch.run.input import InputError, InputLine, read
from serve_app.batch.run.model_queue import Backlog

LINES = (
    codecs.BOM_UTF8 + b"first\n\n \r\n" + b"".join(b"%d" % n + b"x" * (n % 70) + b"\n" for n in range(2000)) + b"last"
)


@pytest.fixture(params=["plain", "packed"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> list[Path]:
    """Two files with one content."""
    packed = request.param == "packed"
    files = [tmp_path / f"{name}.jsonl{'.gz' if packed else ''}" for name in "ab"]
    for file in files:
        file.write_bytes(gzip.compress(LINES) if packed else LINES)
    return files


async def taken(backlog: Backlog, count: int) -> list[InputLine]:
    lines = []
    for _ in range(count):
        lines.append(await backlog.first())
        backlog.drop_first()
    return lines


@pytest.mark.parametrize("every", [1, 3, 700])
async def test_lines_come_out_as_they_went_in(files: list[Path], every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_queue, "UNPACKED_AT_ONCE", 1000)
    monkeypatch.setattr(model_queue, "DROPPED_AT_ONCE", 10)
    lines = list(read(files))[::every]
    backlog = Backlog()
    for line in lines:
        backlog.append(line)
    assert len(backlog) == len(lines) and await taken(backlog, len(lines)) == lines and not backlog
    backlog.close()


async def test_lines_may_come_while_others_go(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_queue, "DROPPED_AT_ONCE", 10)
    lines = list(read(files))
    backlog = Backlog()
    out: list[InputLine] = []
    for number, line in enumerate(lines):
        backlog.append(line)
        out += await taken(backlog, number % 2)
    out += await taken(backlog, len(backlog))
    assert out == lines
    backlog.close()


async def test_the_first_line_stays_until_it_is_dropped(files: list[Path]) -> None:
    backlog = Backlog()
    for line in read(files):
        backlog.append(line)
    assert await backlog.first() == await backlog.first() and len(backlog) == 2 * 2002
    backlog.close()


async def test_a_line_that_is_too_long_is_not_held_the_second_time_either(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input, "MOST_LINE_BYTES", 20)
    lines = list(read(files))
    backlog = Backlog()
    for line in lines:
        backlog.append(line)
    assert await taken(backlog, len(lines)) == lines and sum(line.data is None for line in lines) > 1000
    backlog.close()


async def test_a_file_that_is_gone_is_named(files: list[Path]) -> None:
    backlog = Backlog()
    backlog.append(next(read(files)))
    files[0].unlink()
    with pytest.raises(InputError, match=str(files[0])):
        await backlog.first()


async def test_a_backlog_takes_16_bytes_a_line(tmp_path: Path) -> None:
    backlog = Backlog()
    for number in range(1000):
        backlog.append(InputLine(number, tmp_path, number + 1, 2**40 + number, b"x"))
    sizes = (backlog._offsets, backlog._indexes, backlog._numbers)
    assert sum(len(positions) * positions.itemsize for positions in sizes) == 16 * 1000
