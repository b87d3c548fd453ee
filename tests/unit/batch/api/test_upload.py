"""Multipart bodies, whole and broken, in pieces of any size."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from serve_app.batch.api.upload import Form, receive
from serve_app.http.errors import ApiError

TYPE = "multipart/form-data; boundary=b"
FIELD = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
FILE = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n%b\r\n"
)
END = b"--b--\r\n"


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def upload(
    body: bytes, target: Path, limit: int = 10**6, size: int = 7, kind: str = TYPE, room: Any = None
) -> Form:
    return await receive(kind, pieces(body, size), target, limit, room or (lambda: 10**9))


@pytest.mark.parametrize("size", [1, 2, 3, 13, 64, 10**6])
async def test_a_file_arrives_as_it_was(tmp_path: Path, size: int) -> None:
    content = b"\r\n--b\r--" + random.Random(0).randbytes(2000) + b"\r\n--"
    form = await upload(FIELD + FILE % content + END, tmp_path / "f", size=size)
    assert (tmp_path / "f").read_bytes() == content and form.size == len(content)
    assert (form.filename, form.fields) == ("in.jsonl", {"purpose": "batch"})
    form = await upload(FILE % content + FIELD + END, tmp_path / "g", size=size)
    assert form.fields == {"purpose": "batch"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (FILE % (b"x" * 1001) + END, 413),
        (FIELD + END, 400),
        (FIELD + FILE % b"x", 400),
        (FIELD + FILE[:80] + END, 400),
        (FILE % b"x" + FILE % b"y" + END, 400),
        (FIELD * 20 + FILE.replace(b'"file"', b'"f"') % b"x" + END, 400),
        (b"no multipart at all", 400),
        (b"", 400),
    ],
)
async def test_what_is_wrong_leaves_nothing_behind(tmp_path: Path, body: bytes, status: int) -> None:
    with pytest.raises(ApiError) as caught:
        await upload(body, tmp_path / "f", limit=1000)
    assert caught.value.status == status and not (tmp_path / "f").exists()


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", ""])
async def test_another_content_type_is_415(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ApiError) as caught:
        await upload(FILE % b"x" + END, tmp_path / "f", kind=kind)
    assert caught.value.status == 415


async def test_what_would_leave_too_little_of_the_disk_is_507(tmp_path: Path) -> None:
    left = 3 * 2**20

    def room() -> int:
        nonlocal left
        left -= 2**20
        return left

    with pytest.raises(ApiError, match="min_free_mib") as caught:
        await upload(FILE % bytes(4 * 2**20) + END, tmp_path / "f", 2**30, size=2**16, room=room)
    assert (caught.value.status, caught.value.code) == (507, "disk_full") and not (tmp_path / "f").exists()
    with pytest.raises(ApiError) as caught:
        await upload(FILE % b"x" + END, tmp_path / "gone" / "f")
    assert caught.value.status == 503 and str(tmp_path) not in caught.value.message


async def test_a_large_file_takes_no_more_memory(tmp_path: Path) -> None:
    async def large() -> AsyncIterator[bytes]:
        head, tail = (FILE % b"|").split(b"|")
        yield head
        for _ in range(512):
            yield bytes(2**16)
        yield tail + END

    tracemalloc.start()
    form = await receive(TYPE, large(), tmp_path / "f", 2**30, lambda: 2**30)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert form.size == (tmp_path / "f").stat().st_size == 2**25
    assert peak < 2**23
