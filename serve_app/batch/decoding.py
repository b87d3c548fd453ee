"""What JSON decoders raise, wherever bytes of others are read."""

from __future__ import annotations

import msgspec

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""For bytes that are no JSON, no UTF-8, nested deeper than can be read, or not of the wanted type (ValidationError)."""


def explained(error: Exception) -> str:
    """What is wrong with the bytes; for one of NOT_JSON."""
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
