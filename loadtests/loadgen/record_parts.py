"""The file of records where there are several processes: each worker writes a part of its own beside it, and the master
joins the parts."""

from __future__ import annotations

import atexit
import os
from pathlib import Path

from loadtests.results import record


def part(path: Path, worker: str) -> Path:
    """The part that a worker writes."""
    return path.with_name(f"{path.name}.{worker}.part")


def clear(path: Path) -> None:
    """Remove what another test left."""
    for old in (path, *_parts(path)):
        old.unlink(missing_ok=True)


def gather(path: Path, keep_parts: bool = False) -> None:
    """Make the file of its parts; does nothing where there are none."""
    if parts := _parts(path):
        whole = [one for part in parts for one in record.read(part)]
        record.write(path, sorted(whole, key=lambda one: one.scheduled_s))
    if not keep_parts:
        for part in parts:
            part.unlink(missing_ok=True)


def gather_at_exit(path: Path) -> None:
    """Join the parts of this file when this process ends, after its workers have gone."""
    _gathering[os.getpid()] = path


def _parts(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.*.part"))


def _at_exit() -> None:
    if path := _gathering.get(os.getpid()):
        gather(path)


_gathering: dict[int, Path] = {}
# Registered on import, before Locust forks its workers and registers what waits for them: the last to register is the
# first to run. Forked workers inherit the registration, hence the process ids.
atexit.register(_at_exit)
