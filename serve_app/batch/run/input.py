"""A batch's input files: their lines as a stream, and one pass over all of them before anything is sent.

That pass (`scan`) finds how many lines there are, which input it is, which models it names, and a custom_id that comes
twice. Its memory hardly grows with the number of lines: 64-bit hashes of the ids lie on disk, in PARTS unnamed files,
and each of these is sorted by itself. Two ids with one hash are compared as they are before they are refused.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import hashlib
import tempfile
import zlib
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from serve_app.batch.run.requests import MOST_LINE_BYTES, SHOWN, names

PARTS = 64
"""Each holds a 64th of the hashes, which take 40 bytes each in memory while it is sorted: 6 MiB at 10 million lines."""
MOST_MODELS = 1000
LONGEST_MODEL = 1000
"""Characters of a name that may be a model's."""
MOST_DUPLICATES = 5
"""That a message names."""
READ_ERRORS = (OSError, EOFError, zlib.error)
"""What opening and reading a file may raise, packed or not."""
_GZIP = b"\x1f\x8b"


class InputError(Exception):
    """The input as a whole cannot be used; the text says why."""

    def __init__(self, reason: str, file: Path | None = None, code: str = "invalid_input") -> None:
        super().__init__(f"{file}: {reason}" if file else reason)
        self.reason = reason
        """Without the file's path, which a client of a service does not know."""
        self.code = code
        """A stable machine-readable reason."""


class NoRoomToScan(Exception):
    """The folder for temporary files cannot be used now; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class InputLine:
    """A line that is not blank."""

    index: int
    """Which of all of the input's lines that are not blank, from 0."""
    file: Path
    number: int
    """Within its file, from 1, blank ones counted."""
    offset: int
    """Bytes before it in its file, in the unpacked one of a file packed with gzip."""
    data: bytes | None
    """With its line end; None where it is over MOST_LINE_BYTES."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What is known of an input."""

    lines: int
    """Not blank, bad ones included."""
    fingerprint: str
    """Of the lines' bytes: it does not depend on how they are packed or how their files are named."""
    lines_of: Mapping[str, int]
    """How many lines name a model, for the first MOST_MODELS models."""

    @property
    def models(self) -> frozenset[str]:
        """Named by the lines."""
        return frozenset(self.lines_of)


def expand(patterns: Sequence[str]) -> list[Path]:
    """The files that paths and glob patterns name, each once, in the order given, a pattern's by name."""
    files: dict[Path, None] = {}
    for pattern in patterns:
        found = [pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern, recursive=True))
        if not found:
            raise InputError(f"{pattern}: there is no such file")
        files |= dict.fromkeys(Path(one) for one in found if Path(one).is_file())
    return list(files)


def read(files: Sequence[Path]) -> Iterator[InputLine]:
    """Every line but the blank ones; `.gz` files are unpacked and byte-order marks left out. Raises InputError."""
    index = 0
    for file in files:
        number, offset = 1, 0
        try:
            with opened(file) as stream:
                while True:
                    data, size = next_line(stream, file, first=number == 1)
                    if not size:
                        break
                    if data is None or data.strip():
                        yield InputLine(index, file, number, offset, data)
                        index += 1
                    number += 1
                    offset += size
        except READ_ERRORS as error:
            raise unreadable(error, file) from None


def opened(file: Path) -> BinaryIO:
    """The file's bytes, unpacked where it is packed. Raises OSError."""
    return cast(BinaryIO, gzip.open(file) if is_packed(file) else file.open("rb"))


def is_packed(file: Path) -> bool:
    """Whether a file's name says that it is packed with gzip."""
    return file.suffix == ".gz"


def unreadable(error: Exception, file: Path) -> InputError:
    """What to raise for one of READ_ERRORS."""
    return InputError(getattr(error, "strerror", None) or str(error), file)


def next_line(stream: BinaryIO, file: Path, first: bool) -> tuple[bytes | None, int]:
    """The line a stream is at, None where it is over MOST_LINE_BYTES, and how many bytes it takes in the file.

    At the end of the file these are 0. The `first` line of a file comes without its byte-order mark; raises InputError
    where it shows that the file is no UTF-8.
    """
    line: bytes | None = stream.readline(MOST_LINE_BYTES)
    assert line is not None
    size = len(line)
    if size == MOST_LINE_BYTES and not line.endswith(b"\n"):
        while (rest := stream.readline(MOST_LINE_BYTES)) and not rest.endswith(b"\n"):
            size += len(rest)
        line, size = None, size + len(rest)
    return (_without_mark(line, file) if first and line else line), size


def _without_mark(line: bytes, file: Path) -> bytes:
    for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        if line.startswith(mark):
            raise InputError("this is UTF-16: write the file as UTF-8", file)
    if line.startswith(_GZIP):
        raise InputError("this is packed with gzip: unpack it (the file runner unpacks what ends in .gz)", file)
    return line.removeprefix(codecs.BOM_UTF8)


def scan(files: Sequence[Path]) -> Scan:
    """Read it all; raises InputError where there is no line, a custom_id comes twice, or a file cannot be read.

    The hashes take 8 bytes a line of the folder for temporary files; raises NoRoomToScan where that has none.
    """
    content = hashlib.blake2b(digest_size=6)
    lines = 0
    lines_of: Counter[str] = Counter()
    try:
        with ExitStack() as stack:
            parts = [stack.enter_context(tempfile.TemporaryFile(buffering=4096)) for _ in range(PARTS)]
            for line in read(files):
                lines += 1
                content.update((line.data or b"").rstrip() + b"\n")
                name, model = names(line.data)
                if name is not None:
                    hash = _hash(name)
                    parts[hash[0] % PARTS].write(hash)
                if model and (model in lines_of or (len(model) <= LONGEST_MODEL and len(lines_of) < MOST_MODELS)):
                    lines_of[model] += 1
            suspects = {hash for part in parts for hash in _repeated(part)}
    except OSError as error:
        raise NoRoomToScan(f"{tempfile.gettempdir()}: {error.strerror}; TMPDIR names another folder") from None
    if not lines:
        only = files[0] if len(files) == 1 else None
        raise InputError("there are no lines: write one request a line", only, "empty_file")
    if suspects and (duplicates := _duplicates(files, suspects)):
        listed = "\n".join(["no request was sent: a custom_id must not come twice", *duplicates])
        raise InputError(listed, code="duplicate_custom_id")
    return Scan(lines, content.hexdigest(), dict(lines_of))


def _hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest()


def _repeated(part: IO[bytes]) -> Iterator[bytes]:
    part.seek(0)
    hashes = array("Q", part.read())
    last = None
    for hash in sorted(hashes):
        if hash == last:
            yield array("Q", [hash]).tobytes()
        last = hash


def _duplicates(files: Sequence[Path], suspects: Collection[bytes]) -> list[str]:
    """A line for each of the first ids that do come twice; reads the input again."""

    def place(line: InputLine) -> str:
        return f"{line.file}:{line.number}" if len(files) > 1 else f"line {line.number}"

    first: dict[str, str] = {}
    told: list[str] = []
    for line in read(files):
        name, _ = names(line.data)
        if name is None or _hash(name) not in suspects:
            continue
        if name in first:
            told.append(f"  {name[:SHOWN]!r}: {first[name]} and {place(line)}")
            if len(told) == MOST_DUPLICATES:
                return [*told, "  and perhaps more"]
        else:
            first[name] = place(line)
    return told
