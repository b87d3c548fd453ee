"""Which services `up` has started on this machine: a small file in the folder of each, checked against what runs."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from serve_app.launching.processes import Family, Identity, is_alive

# Not wherever TMPDIR points: HAProxy's and Ray's sockets lie below it, whose names have about 100 characters at most.
ROOT = Path("/tmp")
PREFIX = "serve-app-"
FILE = "launch.json"
LEFT_FOR_S = 24 * 3600
"""How long the log of a launch that failed is kept."""


@dataclass(frozen=True)
class Launch:
    """One service and its launcher."""

    id: str
    """The mark its processes carry."""
    folder: str
    config: str
    url: str
    port: int
    began: float
    """Seconds since the epoch."""
    launcher: Identity
    """Process id of `up` and when that process started."""
    child: Identity | None
    """Process id of its `serve run` and when that process started, once there is one."""
    cluster: str | None
    """The Ray cluster it was deployed to; None where it has one of its own."""
    drain_s: float
    """How long its open requests may take to end."""

    def save(self) -> None:
        """Keep it where `launches` finds it."""
        path = Path(self.folder) / FILE
        path.with_suffix(".new").write_text(json.dumps(asdict(self)))
        path.with_suffix(".new").replace(path)

    def processes(self) -> list[int]:
        """Ids of its processes that are alive, the launcher left out."""
        return [pid for pid in Family(self.id).members() if pid != self.launcher[0]]

    @property
    def has_launcher(self) -> bool:
        """Whether somebody is there to end it on Ctrl-C."""
        return is_alive(*self.launcher)

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.began))
        launcher = f"process {self.launcher[0]}" if self.has_launcher else "its launcher is gone"
        return f"the service from {self.config} at {self.url}, started {since} ({launcher})"


def launches() -> list[Launch]:
    """This user's services that have processes or a launcher, the oldest first."""
    return sorted((one for one in _recorded() if one.has_launcher or one.processes()), key=lambda one: one.began)


def on_port(port: int) -> Launch | None:
    """The service that was started on a port, if it is one of this user's."""
    return next((one for one in launches() if one.port == port), None)


def sweep() -> None:
    """Remove folders of launches of which nothing runs, a day after their last sign of life."""
    for folder in _folders():
        recorded = _read(folder)
        newest = max((path.stat().st_mtime for path in (folder, *folder.glob("*.log"))), default=0.0)
        if time.time() - newest < LEFT_FOR_S or (recorded and (recorded.has_launcher or recorded.processes())):
            continue
        if recorded or not _in_use(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _folders() -> Iterator[Path]:
    for folder in ROOT.glob(f"{PREFIX}*"):
        try:
            mine = folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == os.geteuid()
        except OSError:
            continue
        if mine:
            yield folder


def _recorded() -> Iterator[Launch]:
    for folder in _folders():
        if recorded := _read(folder):
            yield recorded


def _read(folder: Path) -> Launch | None:
    try:
        data = json.loads((folder / FILE).read_text())
        child = data.pop("child")
        known = {"folder": str(folder), "launcher": tuple(data["launcher"]), "child": tuple(child) if child else None}
        return Launch(**data | known)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _in_use(folder: Path) -> bool:
    """Whether a process was told of it."""
    return any(str(folder) in " ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"]))
