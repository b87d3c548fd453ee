"""A batch's input read once before anything is sent: how many lines, which input it is, no custom_id twice.

Memory hardly grows with the number of lines: 64-bit hashes of the ids lie on disk, in PARTS unnamed files, and each is
sorted by itself. Two ids with the same hash are compared as they are before they are refused.
"""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from serve_app.batch.run.lines import SHOWN, InputError, Raw, names, read

PARTS = 64
"""Each holds a 64th of the hashes, which take 40 bytes each in memory while it is sorted: 6 MiB at 10 million lines."""
MOST_MODELS = 1000
LONGEST_MODEL = 1000
"""Characters of a name that may be a model's."""
MOST_DUPLICATES = 5
"""That a message names."""


class NoRoomToScan(Exception):
    """The folder for temporary files cannot be used now; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What is known of an input."""

    lines: int
    """Not blank, bad ones included."""
    fingerprint: str
    """Of the lines' bytes: the same however they are packed or their files are named."""
    models: frozenset[str]
    """Named by the lines."""


def scan(files: Sequence[Path]) -> Scan:
    """Read it all; raises InputError where there is no line, a custom_id comes twice, or a file cannot be read.

    The hashes take 8 bytes a line of the folder for temporary files; raises NoRoomToScan where that has none.
    """
    content = hashlib.blake2b(digest_size=6)
    lines = 0
    models: set[str] = set()
    try:
        with ExitStack() as stack:
            parts = [stack.enter_context(tempfile.TemporaryFile(buffering=4096)) for _ in range(PARTS)]
            for raw in read(files):
                lines += 1
                content.update((raw.data or b"").rstrip() + b"\n")
                name, model = names(raw)
                if name is not None:
                    hash = _hash(name)
                    parts[hash[0] % PARTS].write(hash)
                if model is not None and len(model) <= LONGEST_MODEL and len(models) < MOST_MODELS:
                    models.add(model)
            suspects = {hash for part in parts for hash in _repeated(part)}
    except OSError as error:
        raise NoRoomToScan(f"{tempfile.gettempdir()}: {error.strerror}; TMPDIR names another folder") from None
    if not lines:
        only = files[0] if len(files) == 1 else None
        raise InputError("there are no lines: write one request a line", only, "empty_file")
    if suspects and (duplicates := _duplicates(files, suspects)):
        listed = "\n".join(["no request was sent: a custom_id must not come twice", *duplicates])
        raise InputError(listed, code="duplicate_custom_id")
    return Scan(lines, content.hexdigest(), frozenset(models))


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

    def place(raw: Raw) -> str:
        return f"{raw.file}:{raw.number}" if len(files) > 1 else f"line {raw.number}"

    first: dict[str, str] = {}
    told: list[str] = []
    for raw in read(files):
        name, _ = names(raw)
        if name is None or _hash(name) not in suspects:
            continue
        if name in first:
            told.append(f"  {name[:SHOWN]!r}: {first[name]} and {place(raw)}")
            if len(told) == MOST_DUPLICATES:
                return [*told, "  and perhaps more"]
        else:
            first[name] = place(raw)
    return told
