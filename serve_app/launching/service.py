"""One `serve run` and everything it starts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_app.config_file import load
from serve_app.launching.environment import environment
from serve_app.launching.log import ServiceLog
from serve_app.launching.mps import Mps
from serve_app.launching.processes import Family
from serve_app.launching.settings import Settings

STOP_TIMEOUT_S = 40.0
"""Serve lets open responses end; with none open it takes about 8 s."""


@dataclass(frozen=True)
class Readiness:
    """What /ready said."""

    ready: bool
    models: dict[str, dict[str, int]]


class Service:
    """A service on this machine: started, asked, stopped."""

    def __init__(self, settings: Settings, folder: Path, cluster: str | None, mps: Mps | None = None) -> None:
        self.settings = settings
        self.log = ServiceLog(folder / "service.log")
        self._mps = mps
        launch_id = uuid.uuid4().hex
        services = [one.config for one in load(settings.config).applications]
        self._environment = environment(launch_id, folder, services) | {"RAY_ADDRESS": cluster or "local"}
        self.family = Family(launch_id)
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns at once; `readiness` tells how far it is. Raises CannotStart without the MPS it was to have."""
        variables = self._environment
        if self._mps is not None:
            self._mps.start(variables)
            variables = variables | self._mps.variables
        with self.log.path.open("wb") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "ray.serve.scripts", "run", str(self.settings.config)],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=variables,
                start_new_session=True,
            )

    @property
    def ended(self) -> bool:
        """Whether `serve run` is gone."""
        return self._child is not None and self._child.poll() is not None

    @property
    def ending(self) -> str:
        """How `serve run` ended."""
        status = self._child.poll() if self._child is not None else None
        if status is None or status >= 0:
            return f"exit status {status}"
        return f"by signal {signal.Signals(-status).name}"

    def readiness(self) -> Readiness | None:
        """What /ready says; None while nobody answers."""
        try:
            with urllib.request.urlopen(f"{self.settings.url}/ready", timeout=5) as response:
                return _readiness(True, response.read())
        except urllib.error.HTTPError as error:
            return _readiness(False, error.read())
        except OSError:
            return None

    def stop(self) -> None:
        """Let `serve run` shut Serve and Ray down, for a bounded time."""
        self.family.members()
        if self._child is not None and not self.ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(STOP_TIMEOUT_S)
        if self._mps is not None:
            self._mps.stop(self._environment)

    def sweep(self, patience_s: float) -> list[int]:
        """End whatever is left of it; returns the ids of those that would not."""
        left = self.family.end(patience_s)
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(1)
        return left


def _readiness(ready: bool, body: bytes) -> Readiness | None:
    """None where it was not our ingress that answered."""
    try:
        data: Any = json.loads(body)
        models = {
            str(name): {"ready": int(n["ready"]), "wanted": int(n["wanted"])} for name, n in data["models"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return Readiness(ready, models)
