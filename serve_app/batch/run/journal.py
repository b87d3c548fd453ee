"""What a batch has done: its output and its error file, which are all of its state.

The `id` of each of their lines says which input it answers and which line of it, so a run that was killed goes on
from the two files alone. Lines are appended whole; what a killed run left of a last line is cut off.

Durability: a line is the kernel's as soon as `add` returns, so nothing is lost when this process is killed. Whoever
adds calls `sync` every SYNC_S and at the end: a machine that loses its power may lose the lines since, which are then
sent again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from serve_app.batch.run.input import Scan
from serve_app.http.json_bytes import UNREADABLE

SYNC_S = 1.0
_READ = 2**20
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class JournalError(Exception):
    """The output cannot be written, or is not this batch's; the text says why and what to do."""


class DiskFull(JournalError):
    """There is no room left. What was written before is whole, and another run goes on from there."""


class OutputMismatch(JournalError):
    """What is in the files is not what this batch wrote; waiting does not help."""


class _Written(msgspec.Struct):
    id: str


_written = msgspec.json.Decoder(_Written)
_begins = re.compile(rb'\{"id":"([0-9a-z_]+)",')
"""A line with an answer that is nested deeper than can be read."""


class Journal:
    """The output and the error file of one batch, open for this run alone. A context manager."""

    def __init__(self, output: Path, errors: Path, scan: Scan) -> None:
        """Raises OutputMismatch where a file is another batch's, JournalError where another run is at work on it."""
        self.succeeded = 0
        """Lines of the output."""
        self.failed = 0
        """Lines of the error file."""
        self.total = scan.lines
        """Lines of the input."""
        self.lines_of = scan.lines_of
        """How many of them name a model."""
        self._fingerprint = scan.fingerprint
        self._done = bytearray((scan.lines + 7) // 8)
        if output.resolve() == errors.resolve():
            raise JournalError(f"{output} cannot hold both answers and errors: give --errors another name")
        self._output = _Appended(output)
        try:
            self._errors = _Appended(errors)
            self.succeeded = self._recover(self._output)
            self.failed = self._recover(self._errors)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def done(self, index: int) -> bool:
        """Whether the line is answered, one way or the other."""
        return bool(self._done[index >> 3] & 1 << (index & 7))

    def id(self, index: int) -> str:
        """What names the line's answer."""
        return f"batch_req_{self._fingerprint}_{index:x}"

    def add(self, index: int, line: bytes, failed: bool) -> None:
        """Append an answer, with `id(index)` as its `id` and a newline at its end. Raises DiskFull, JournalError."""
        (self._errors if failed else self._output).append(line)
        self._mark(index)
        if failed:
            self.failed += 1
        else:
            self.succeeded += 1

    def sync(self) -> None:
        """Wait until the disk has what was added before. Blocks; lines may be added meanwhile, from another thread."""
        self._output.sync()
        self._errors.sync()

    def close(self) -> None:
        """Let another run have the files."""
        self._output.close()
        if hasattr(self, "_errors"):
            self._errors.close()

    def _mark(self, index: int) -> None:
        self._done[index >> 3] |= 1 << (index & 7)

    def _recover(self, file: _Appended) -> int:
        count = 0
        for number, line in file.recovered():
            try:
                prefix, fingerprint, index = _id_of(line).rsplit("_", 2)
                position = int(index, 16)
            except (*UNREADABLE, ValueError):
                prefix = ""
            if prefix != "batch_req" or position < 0:
                raise OutputMismatch(
                    f"{file.path}:{number} is not a line of this command's: choose another file, or move this one away"
                )
            if fingerprint != self._fingerprint:
                raise OutputMismatch(
                    f"{file.path} holds answers to another input: the input has changed since, or the file is another "
                    "batch's. Restore the input to go on, or choose another output to begin anew"
                )
            if position >= self.total or self.done(position):
                raise OutputMismatch(f"{file.path}:{number} answers a line answered before: remove one of the two")
            self._mark(position)
            count += 1
        return count


def _id_of(line: bytes) -> str:
    try:
        return _written.decode(line).id
    except RecursionError:
        found = _begins.match(line)
        return found[1].decode() if found else ""


class _Appended:
    """A file that only ever grows by whole lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise JournalError(f"{path}: {error.strerror}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise JournalError(f"{path} is being written by another run") from None
        self._size = 0

    def recovered(self) -> Iterator[tuple[int, bytes]]:
        """The lines there are, numbered from 1; a last one that is not whole is cut off. To be read to the end."""
        with os.fdopen(os.dup(self._fd), "rb", buffering=_READ) as file:
            file.seek(0)
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                self._size += len(line)
                yield number, line
        os.ftruncate(self._fd, self._size)

    def append(self, line: bytes) -> None:
        """All of it or nothing."""
        try:
            written = os.write(self._fd, line)
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise self._error(error) from None
        self._size += len(line)

    def sync(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise self._error(error) from None

    def close(self) -> None:
        os.close(self._fd)

    def _error(self, error: OSError) -> JournalError:
        if error.errno in _NO_ROOM:
            return DiskFull(
                f"{self.path}: {error.strerror}. Every line written so far is whole: make room, and run the same "
                "command again to go on"
            )
        return JournalError(f"{self.path}: {error.strerror}")
