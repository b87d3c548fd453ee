"""What tensors a file has, read from its header alone.

https://github.com/huggingface/safetensors: eight bytes of length, and a JSON object of that length.
"""

from __future__ import annotations

import os
from pathlib import Path

from serve_app.adapters.json_object import json_object

MOST_HEADER_BYTES = 2**26
"""A larger header is none: the whole of an adapter's has some ten thousand."""

Shapes = dict[str, tuple[int, ...]]
"""By the tensors' names."""


def shapes(file: Path) -> Shapes:
    """Raises ValueError for a file that is not whole, and OSError for one that cannot be read."""
    with file.open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        length = int.from_bytes(opened.read(8), "little")
        if not 2 <= length <= min(MOST_HEADER_BYTES, size - 8):
            raise ValueError(f"{file.name} is no safetensors file, or only a part of one")
        header = json_object(opened.read(length))
    if header is None:
        raise ValueError(f"the header of {file.name} is not JSON")
    header.pop("__metadata__", None)
    try:
        end = max((one["data_offsets"][1] for one in header.values()), default=0)
        found = {name: tuple(map(int, one["shape"])) for name, one in header.items()}
    except (KeyError, IndexError, TypeError, ValueError):
        raise ValueError(f"the header of {file.name} is not one of safetensors") from None
    if size != 8 + length + end:
        raise ValueError(f"{file.name} has {size:,} bytes, and should have {8 + length + end:,}")
    return found
