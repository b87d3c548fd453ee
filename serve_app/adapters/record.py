"""What was loaded and unloaded by request, in a file of the adapters' directory.

It outlives the service, and is where every process that routes requests looks for adapters anyway.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve_app.adapters.json_object import json_object

FILE, LOCK = ".serve-app-adapters.json", ".serve-app-adapters.lock"


@dataclass
class AdapterRecord:
    """Of one model."""

    loaded: dict[str, str] = field(default_factory=dict)
    """Paths below the directory, by the names that were asked for."""
    unloaded: list[str] = field(default_factory=list)
    """Folders of the directory that are not served."""


def read(root: Path, model: str) -> AdapterRecord:
    """The record of a model; empty where there is none, or none that can be read."""
    found = _read(root).get(model)
    try:
        return AdapterRecord(dict(found["loaded"]), list(found["unloaded"])) if found else AdapterRecord()
    except (KeyError, TypeError, ValueError):
        return AdapterRecord()


@contextlib.contextmanager
def changing(root: Path, model: str) -> Iterator[AdapterRecord]:
    """The record of a model, which is written as it is left. One process at a time; blocks. Raises OSError."""
    with (root / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = read(root, model)
        yield record
        everything = _read(root) | {model: {"loaded": record.loaded, "unloaded": record.unloaded}}
        with tempfile.NamedTemporaryFile("w", dir=root, prefix=FILE, delete=False) as file:
            json.dump(everything, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(file.name, 0o644)
        os.replace(file.name, root / FILE)


def _read(root: Path) -> dict[str, Any]:
    try:
        return json_object((root / FILE).read_bytes()) or {}
    except OSError:
        return {}
