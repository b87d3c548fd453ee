"""Every process of one launch, wherever it ended up in the process tree."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

LAUNCH_ID = "SERVE_APP_LAUNCH_ID"
"""The environment variable that marks them."""
PROC = Path("/proc")


class Process(NamedTuple):
    """One line of the machine's process table."""

    parent: int
    started: int
    """Clock ticks since boot: with the id, it names a process for good."""


def is_alive(pid: int, started: int) -> bool:
    """Whether the process that had this id, and began then, still runs."""
    return (one := _process(pid)) is not None and one.started == started


def identity(pid: int) -> tuple[int, int]:
    """A process's id, and when it began; 0 where it has ended."""
    one = _process(pid)
    return pid, one.started if one else 0


class Family:
    """The processes that carry the launch's mark, their descendants, and those known to have been either.

    A title (`ray::ServeReplica`) can overwrite the environment that holds the mark, and an orphan loses its parent,
    so what was once seen stays known.
    """

    def __init__(self, launch_id: str) -> None:
        self.launch_id = launch_id
        self._mark = f"{LAUNCH_ID}={launch_id}".encode()
        self._known: dict[int, int] = {}

    def members(self) -> list[int]:
        """Ids of those alive."""
        table = _table()
        found = {pid for pid, one in table.items() if self._known.get(pid) == one.started or self._marked(pid)}
        while more := {pid for pid, one in table.items() if one.parent in found} - found:
            found |= more
        self._known = {pid: table[pid].started for pid in found}
        return sorted(found)

    def end(self, patience_s: float) -> list[int]:
        """Ask all of them to end, then make them; returns those still there."""
        for sign, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 5.0)):
            if patience_s or sign == signal.SIGKILL:
                self._signal(sign, wait_s)
        return self.members()

    def _signal(self, sign: signal.Signals, wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        asked: set[int] = set()
        while (left := self.members()) and time.monotonic() < deadline:
            for pid in set(left) - asked:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, sign)
            asked |= set(left)
            time.sleep(0.1)

    def _marked(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            return self._mark in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
        return False


def _table() -> dict[int, Process]:
    """All processes but this one and the dead."""
    pids = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()] if PROC.exists() else []
    return {pid: one for pid in pids if pid != os.getpid() and (one := _process(pid))}


def _process(pid: int) -> Process | None:
    """None for one that has ended, waited for or not."""
    try:
        state, parent, *rest = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else Process(int(parent), int(rest[17]))
