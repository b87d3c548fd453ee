"""The lines of a batch's input: OpenAI's batch format, read as a stream and judged one by one.

https://platform.openai.com/docs/guides/batch: a line is an object of `custom_id`, `method`, `url` and `body`.
"""

from __future__ import annotations

import codecs
import contextlib
import glob
import gzip
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import msgspec

from serve_app.http.json_bytes import UNREADABLE, explained

MOST_LINE_BYTES = 64 * 2**20
"""A longer line is an error of its own, and is skipped without being held in memory."""
ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
"""What a line's `url` may be."""
SHOWN = 100
"""Characters of a name that a message repeats."""
_GZIP = b"\x1f\x8b"


class InputError(Exception):
    """The input as a whole cannot be used; the text says why."""

    def __init__(self, reason: str, file: Path | None = None, code: str = "invalid_input") -> None:
        super().__init__(f"{file}: {reason}" if file else reason)
        self.reason = reason
        """Without the file's path, which a client of a service does not know."""
        self.code = code
        """A stable machine-readable reason."""


class BadLine(Exception):
    """A line that cannot be sent; the text says why."""

    def __init__(self, code: str, reason: str, custom_id: str | None) -> None:
        super().__init__(reason)
        self.code = code
        """A stable machine-readable reason."""
        self.custom_id = custom_id
        """If it could be read."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A line that is not blank."""

    index: int
    """Which of all of the input's lines that are not blank, from 0."""
    file: Path
    number: int
    """Within its file, from 1, blank ones counted."""
    data: bytes | None
    """None where it is over MOST_LINE_BYTES."""


class Line(msgspec.Struct):
    """A line as it should be."""

    custom_id: str
    method: Literal["POST"]
    url: str
    body: msgspec.Raw


class _Named(msgspec.Struct):
    model: Any = None


class _Names(msgspec.Struct):
    custom_id: Any = None
    body: _Named | None = None


class _Id(msgspec.Struct):
    custom_id: Any = None


class _Head(msgspec.Struct):
    """What is read of a body; the rest is the engine's to judge."""

    model: str
    priority: int | None = None
    stream: bool | None = None


_line = msgspec.json.Decoder(Line)
_names = msgspec.json.Decoder(_Names)
_id = msgspec.json.Decoder(_Id)
_head = msgspec.json.Decoder(_Head)
_begins = re.compile(rb'\s*\{\s*"custom_id"\s*:\s*"[^"\\]*(?:\\.[^"\\]*)*"')
"""A line that cannot be read to its end, up to its `custom_id`."""


def expand(patterns: Sequence[str]) -> list[Path]:
    """The files that paths and glob patterns name, each once, in the order given, a pattern's by name."""
    files: dict[Path, None] = {}
    for pattern in patterns:
        found = [pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern, recursive=True))
        if not found:
            raise InputError(f"{pattern}: there is no such file")
        files |= dict.fromkeys(Path(one) for one in found if Path(one).is_file())
    return list(files)


def read(files: Sequence[Path]) -> Iterator[Raw]:
    """Every line but the blank ones; `.gz` files are unpacked and byte-order marks left out. Raises InputError."""
    index = 0
    for file in files:
        try:
            with cast(BinaryIO, gzip.open(file) if file.suffix == ".gz" else file.open("rb")) as stream:
                for number, data in enumerate(_split(stream), 1):
                    if number == 1:
                        data = _first(data, file)
                    if data is None or data.strip():
                        yield Raw(index, file, number, data)
                        index += 1
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(getattr(error, "strerror", None) or str(error), file) from None


def _split(stream: BinaryIO) -> Iterator[bytes | None]:
    while line := stream.readline(MOST_LINE_BYTES):
        if len(line) < MOST_LINE_BYTES or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(MOST_LINE_BYTES)
        yield None


def _first(line: bytes | None, file: Path) -> bytes | None:
    """A file's first line without its byte-order mark; raises InputError where it is no text that is read here."""
    for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        if line is not None and line.startswith(mark):
            raise InputError("this is UTF-16: write the file as UTF-8", file)
    if line is not None and line.startswith(_GZIP):
        raise InputError("this is packed with gzip: unpack it (the file runner unpacks what ends in .gz)", file)
    return None if line is None else line.removeprefix(codecs.BOM_UTF8)


def names(raw: Raw) -> tuple[str | None, str | None]:
    """The line's `custom_id` and its model, as far as it has them, however wrong the rest of it is."""
    try:
        line = _names.decode(raw.data or b"")
        model = line.body.model if line.body else None
    except UNREADABLE:
        return custom_id(raw), None
    return _text(line.custom_id), _text(model)


def custom_id(raw: Raw) -> str | None:
    """The line's `custom_id`, if it has one, however wrong the rest of it is."""
    data = raw.data or b""
    try:
        return _text(_id.decode(data).custom_id)
    except UNREADABLE:
        found = _begins.match(data)
    with contextlib.suppress(*UNREADABLE):
        return _text(_id.decode(found[0] + b"}").custom_id) if found else None
    return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def judge(raw: Raw, models: Collection[str] | None, priority: int, routes: Collection[str] = ROUTES) -> Line:
    """The line, its body carrying `priority` unless it has its own. Raises BadLine.

    `models` are the names that are served; None where they are not known.
    """
    if raw.data is None:
        raise BadLine("line_too_long", f"the line is over {MOST_LINE_BYTES // 2**20} MiB", None)
    try:
        line = _line.decode(raw.data)
    except UNREADABLE as error:
        code = "invalid_request" if isinstance(error, msgspec.ValidationError) else "invalid_json"
        raise BadLine(code, explained(error), custom_id(raw)) from None
    if not line.custom_id:
        raise BadLine("invalid_request", "custom_id is empty", None)
    if line.url not in routes:
        raise BadLine("invalid_url", f"url is {line.url[:SHOWN]!r}: use {' or '.join(sorted(routes))}", line.custom_id)
    try:
        head = _head.decode(line.body)
    except UNREADABLE as error:
        raise BadLine("invalid_request", f"{explained(error)} of the body", line.custom_id) from None
    if head.priority is not None and head.priority < 0:
        reason = f"priority is {head.priority}: a batch goes before nobody, so it is 0 or more"
        raise BadLine("invalid_request", reason, line.custom_id)
    if head.stream:
        raise BadLine("invalid_request", "stream is not for batches: leave it out of the body", line.custom_id)
    if models is not None and head.model not in models:
        served = ", ".join(sorted(models))
        reason = f"the model {head.model[:SHOWN]!r} is not served; there is {served}"
        raise BadLine("model_not_found", reason, line.custom_id)
    body = bytes(line.body)
    if priority and head.priority is None:
        body = b'{"priority":%d,%b' % (priority, body[body.index(b"{") + 1 :])
    return Line(line.custom_id, line.method, line.url, msgspec.Raw(body))
