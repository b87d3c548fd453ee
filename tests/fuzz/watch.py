"""The service's processes: which there are, and how much memory each keeps."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

import psutil

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
    for one in psutil.process_iter(["cmdline", "memory_info"]):
        title = " ".join(one.info["cmdline"] or ()).strip()
        if title.startswith(TITLES) and one.info["memory_info"] and os_session(one.pid) in (session, None):
            found[one.pid] = Process(one.pid, title, one.info["memory_info"].rss / 2**20)
    return found


def os_session(pid: int) -> int | None:
    """The id of a process's session, as the kernel has it: a launch has one of its own."""
    with contextlib.suppress(OSError):
        return os.getsid(pid)
    return None


def _session(port: int) -> int | None:
    listening = (one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN)
    pid = next((one.pid for one in listening if one.laddr.port == port and one.pid), None)
    return None if pid is None else os_session(pid)
