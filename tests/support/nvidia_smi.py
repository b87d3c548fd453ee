"""An nvidia-smi that says what a test wants."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serve_app.planning.gpus import Gpu

H100S = tuple(
    Gpu(index, uuid, 81559 / 1024, used / 1024)
    for index, (uuid, used) in enumerate(
        [
            ("GPU-8a6e44a1-4a3d-4f2f-9d5e-000000000000", 70_000),
            ("GPU-1c2d3e4f-4a3d-4f2f-9d5e-111111111111", 1024),
            ("GPU-1c2d99ff-4a3d-4f2f-9d5e-222222222222", 0),
        ]
    )
)
"""The first is nearly full."""
TABLE = "\n".join(f"{one.index}, {one.uuid}, {one.total_gib * 1024:.0f}, {one.used_gib * 1024:.0f}" for one in H100S)


def put(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str = f"cat <<'END'\n{TABLE}\nEND") -> None:
    """Put it first on the PATH."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tools / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")


def hide(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave none on the PATH."""
    (folder / "empty").mkdir(exist_ok=True)
    monkeypatch.setenv("PATH", str(folder / "empty"))
