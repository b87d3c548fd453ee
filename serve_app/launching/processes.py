"""Every process of one launch, wherever it ended up in the process tree."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

import psutil

LAUNCH_ID = "SERVE_APP_LAUNCH_ID"
"""The environment variable that marks them."""
SAME_START_S = 0.5
"""Times at which a process started that differ by less are one: the system's clock may be set meanwhile."""

Identity = tuple[int, float]
"""A process's id, and when it started in seconds since the epoch: together they name it for good."""


def is_alive(pid: int, started: float) -> bool:
    """Whether the process that had this id, and started then, still runs."""
    now = _started(pid)
    return now > 0 and abs(now - started) < SAME_START_S


def identity(pid: int) -> Identity:
    """A process's id, and when it started; 0 where it has ended."""
    return pid, _started(pid)


def title(pid: int) -> str:
    """A process's title, which is its command line unless it has given itself another; empty where it has ended."""
    with contextlib.suppress(psutil.Error):
        return " ".join(psutil.Process(pid).cmdline())
    return ""


class Family:
    """The processes that carry the launch's mark, their descendants, and those known to have been either.

    A title (`ray::ServeReplica`) can overwrite the environment that holds the mark, and an orphan loses its parent,
    so what was once seen stays known.
    """

    def __init__(self, launch_id: str) -> None:
        self.launch_id = launch_id
        self._known: dict[int, float] = {}

    def members(self) -> list[int]:
        """Ids of those alive."""
        table = {one.pid: one for one in _running()}
        found = {pid for pid, one in table.items() if self._knows(one) or self._marked(one)}
        while more := {pid for pid, one in table.items() if one.info["ppid"] in found} - found:
            found |= more
        self._known = {pid: table[pid].info["create_time"] for pid in found}
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

    def _knows(self, one: psutil.Process) -> bool:
        return abs(self._known.get(one.pid, 0.0) - one.info["create_time"]) < SAME_START_S

    def _marked(self, one: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error, OSError):
            return one.environ().get(LAUNCH_ID) == self.launch_id
        return False


def _running() -> Iterator[psutil.Process]:
    """All processes but this one and those that have ended, waited for or not."""
    for one in psutil.process_iter(["ppid", "create_time", "status"]):
        if one.pid != os.getpid() and one.info["status"] not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            yield one


def _started(pid: int) -> float:
    """0 for one that has ended, waited for or not."""
    with contextlib.suppress(psutil.Error):
        one = psutil.Process(pid)
        if one.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return one.create_time()
    return 0.0
