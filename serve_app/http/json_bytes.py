"""JSON looked at without being built: a body of 32 MiB holds ten million items."""

from __future__ import annotations

import codecs
import json
from functools import lru_cache

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What reading may raise."""
_ABSENT = msgspec.Raw()
_ODD = ((rb"\ud", rb"\u0"), (rb"\uD", rb"\u0"), (b"NaN", b"0.0"), (b"Infinity", b"0.000000"))
"""What the engine's parser, Python's own, takes and msgspec does not, and something alike for it: lone surrogates and
numbers that are none."""


def explained(error: Exception) -> str:
    """What is wrong with the bytes; for one of UNREADABLE."""
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def plain(body: bytes) -> bytes:
    """The body for msgspec to read: with what it does not know replaced, also inside texts, where nothing but a hint
    depends on it. Raises UnicodeDecodeError."""
    if body.startswith(codecs.BOM_UTF8):
        body = body[len(codecs.BOM_UTF8) :]
    elif (encoding := json.detect_encoding(body)) != "utf-8":
        body = body.decode(encoding, "surrogatepass").encode("utf-8", "surrogatepass")
    for odd, alike in _ODD:
        body = body.replace(odd, alike)
    return body


def first(raw: msgspec.Raw, most: int) -> list[msgspec.Raw]:
    """The first `most` items of a list, as they came. Raises msgspec.DecodeError for what is no list."""
    items = msgspec.structs.astuple(_decoder(most).decode(raw))
    return [item for item in items if item is not _ABSENT]


@lru_cache(maxsize=16)
def _decoder(most: int) -> msgspec.json.Decoder[msgspec.Struct]:
    """Passes over the items beyond `most`, which costs no memory."""
    fields = [(f"item{number}", msgspec.Raw, _ABSENT) for number in range(most)]
    return msgspec.json.Decoder(msgspec.defstruct("Items", fields, array_like=True))
