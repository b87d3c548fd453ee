"""JSON of files that anybody may have written."""

from __future__ import annotations

import json
from typing import Any


def json_object(text: bytes) -> dict[str, Any] | None:
    """The object that the text is; None where it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
