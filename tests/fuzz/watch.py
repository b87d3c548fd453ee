"""The service's processes: which there are, and how much memory each keeps."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TITLES = ("ray::ServeReplica:", "VLLM::")
"""How the titles of replicas, of ingress and engines, and of engines' own processes begin."""


@dataclass(frozen=True)
class Process:
    """One of them."""

    pid: int
    title: str
    rss_mib: float


def processes(port: int) -> dict[int, Process]:
    """Of the service that listens on a port of this machine: replicas of the session that its listener is of."""
    session = _session(port)
    found = {}
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):
            title = (entry / "cmdline").read_text(errors="replace").strip("\0 ")
            if title.startswith(TITLES) and os_session(int(entry.name)) in (session, None):
                found[int(entry.name)] = Process(int(entry.name), title, _rss_mib(entry))
    return found


def os_session(pid: int) -> int | None:
    """The id of a process's session, as the kernel has it: a launch has one of its own."""
    with contextlib.suppress(OSError, ValueError):
        return int((PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[3])
    return None


def _session(port: int) -> int | None:
    wanted = f":{port:04X}"
    inodes = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (PROC / "net" / table).read_text().splitlines()[1:]:
                words = line.split()
                if words[1].endswith(wanted) and words[3] == "0A":
                    inodes.add(f"socket:[{words[9]}]")
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if any(str(one.readlink()) in inodes for one in (entry / "fd").iterdir()):
                    return os_session(int(entry.name))
    return None


def _rss_mib(entry: Path) -> float:
    line = next(line for line in (entry / "status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
