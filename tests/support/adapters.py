"""Adapters written for tests: those of the demo as they are, or with something about them changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import serve_app

DEMO = Path(serve_app.__file__ or "").parent / "demo/adapters"
WEIGHTS = "adapter_model.safetensors"


def copied(folder: Path, name: str = "kettle") -> Path:
    """A demo adapter in this folder."""
    shutil.copytree(DEMO / name, folder)
    return folder


def configured(folder: Path, **changes: Any) -> Path:
    """With other settings in its adapter_config.json; None takes one out."""
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    return folder


def retold(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """With another header of its weights: `change` gets the header and changes it in place."""
    file = folder / WEIGHTS
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    return folder
