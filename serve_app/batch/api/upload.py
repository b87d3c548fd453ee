"""A multipart upload, written to disk as it comes: a large one needs no more memory than a small one."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from serve_app.http.errors import ApiError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

WRITTEN_AT_ONCE = 2**20
"""Bytes kept in memory before they go to the disk."""
MOST_FIELDS = 16
LONGEST_FIELD = 4096


@dataclass
class Form:
    """What came: the fields, and the one file with its name and size in bytes."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    size: int = 0


async def receive(
    content_type: str, body: AsyncIterator[bytes], target: Path, limit: int, room: Callable[[], int]
) -> Form:
    """Write the field `file` of a multipart body to `target`.

    `room` says how many bytes more the disk may take; asked before each write. Raises ApiError: 400 for what is not
    such a form, 413 for a file over `limit` bytes, 507 when the disk has no room. `target` is gone then.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise ApiError(415, "send the file as multipart/form-data with its boundary", code="content_type")
    parts = _Parts(limit, room)
    try:
        with target.open("xb", buffering=0) as file:
            parser = MultipartParser(options[b"boundary"], parts.callbacks())
            async for chunk in body:
                parser.write(chunk)
                if parts.unwritten_size >= WRITTEN_AT_ONCE:
                    await asyncio.to_thread(parts.write, file)
            parser.finalize()
            await asyncio.to_thread(parts.write, file, to_disk=True)
            if not parts.complete:
                raise ApiError(400, "the upload ends before its last boundary", code="invalid_multipart")
            if parts.form.filename is None:
                raise ApiError(400, "the form has no file: send it in the field 'file'", "file", "missing_file")
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, FormParserError):
            raise ApiError(400, f"the upload is not valid multipart: {error}", code="invalid_multipart") from None
        if isinstance(error, OSError):
            raise _not_stored(error) from None
        raise
    return parts.form


class _Parts:
    """Takes what the parser finds, piece by piece."""

    def __init__(self, limit: int, room: Callable[[], int]) -> None:
        self.form = Form()
        self.complete = False
        self.unwritten_size = 0
        self._limit = limit
        self._room = room
        self._unwritten: list[bytes] = []
        self._header = ""
        self._headers: dict[str, bytes] = {}
        self._name = ""
        self._is_file = False

    def callbacks(self) -> MultipartCallbacks:
        """As python-multipart takes them."""
        return {
            "on_part_begin": self._begin,
            "on_header_begin": self._header_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def write(self, file: BinaryIO, to_disk: bool = False) -> None:
        """Put what has come into the file, and wait for the disk if asked to. Blocks; raises OSError."""
        if self.unwritten_size > self._room():
            raise OSError(errno.ENOSPC, "no room")
        data = memoryview(b"".join(self._unwritten))
        self._unwritten.clear()
        self.unwritten_size = 0
        while data:
            data = data[file.write(data) :]
        if to_disk:
            os.fsync(file.fileno())

    def _begin(self) -> None:
        self._headers = {}

    def _header_begin(self) -> None:
        self._header = ""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end].decode("latin-1").lower()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._headers[self._header] = self._headers.get(self._header, b"") + data[start:end]

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition"))
        self._name = options.get(b"name", b"").decode(errors="replace")
        filename = options.get(b"filename")
        self._is_file = self._name == "file"
        if not self._name:
            raise ApiError(400, "a part of the form has no name", code="invalid_multipart")
        if self._is_file and self.form.filename is not None:
            raise ApiError(400, "the form has two files: send one at a time", "file", "invalid_multipart")
        if self._is_file:
            self.form.filename = (filename or b"").decode(errors="replace").rpartition("/")[2] or "upload"
        elif len(self.form.fields) >= MOST_FIELDS:
            raise ApiError(400, f"the form has more than {MOST_FIELDS} fields", code="invalid_multipart")
        else:
            self.form.fields[self._name] = ""

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_file:
            self.form.fields[self._name] += data[start:end].decode(errors="replace")
            if len(self.form.fields[self._name]) > LONGEST_FIELD:
                raise ApiError(400, f"over {LONGEST_FIELD} characters", self._name, "invalid_value")
            return
        self.form.size += end - start
        if self.form.size > self._limit:
            raise too_large(self._limit)
        self._unwritten.append(data[start:end])
        self.unwritten_size += end - start

    def _end(self) -> None:
        self.complete = True


def _not_stored(error: OSError) -> ApiError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = "the disk of the Batch API has no room (batch.min_free_mib stays free): delete files, or send less"
        return ApiError(507, message, code="disk_full")
    message = f"the Batch API cannot use its directory: {error.strerror}"
    return ApiError(503, message, code="batch_storage_failed", retry_after_s=5)


def too_large(limit: int) -> ApiError:
    """413, naming the setting."""
    message = f"the file is over {limit / 2**20:g} MiB (batch.max_file_mib): send it in parts"
    return ApiError(413, message, "file", "file_too_large")
