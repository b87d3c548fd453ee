"""One `serve run` and everything it starts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serve_app.config.names import deployment
from serve_app.config.schema import ServiceConfig
from serve_app.launching.drain import drain
from serve_app.launching.environment import environment
from serve_app.launching.launches import Launch
from serve_app.launching.log import ServiceLog
from serve_app.launching.mps import Mps
from serve_app.launching.processes import Family, identity, is_alive
from serve_app.launching.settings import Settings
from serve_app.planning.resolve import replica_bounds, resolve

STOP_TIMEOUT_S = 40.0
"""For Serve and Ray to shut down; about 8 s with nothing open."""


@dataclass(frozen=True)
class Readiness:
    """What /ready said."""

    ready: bool
    models: dict[str, dict[str, int]]


class Running:
    """The processes of a launch, whoever started them."""

    def __init__(self, family: Family, child: tuple[int, int] | None, drain_s: float) -> None:
        self._family = family
        self._child = child
        self._drain_s = drain_s

    def stop(self, say: Callable[[str], None]) -> None:
        """Let open requests end, then `serve run` shut Serve and Ray down, each for a bounded time."""
        drain(self._family, self._drain_s, say)
        if self._child is None or not is_alive(*self._child):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child[0], signal.SIGINT)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while is_alive(*self._child) and time.monotonic() < deadline:
            time.sleep(0.1)


class Service:
    """A service on this machine: started, asked, stopped."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        cluster: str | None,
        services: Sequence[ServiceConfig],
        mps: Mps | None = None,
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.log = ServiceLog(folder / "service.log")
        self._mps = mps
        models = [model for one in services for model in resolve(one).config.models]
        launch_id = uuid.uuid4().hex
        self._environment = environment(launch_id, folder, services) | {"RAY_ADDRESS": cluster or "local"}
        self.family = Family(launch_id)
        self._child: subprocess.Popen[bytes] | None = None
        self._launch = Launch(
            id=launch_id,
            folder=str(folder),
            config=str(settings.named),
            url=settings.url,
            port=settings.port,
            began=time.time(),
            launcher=identity(os.getpid()),
            child=None,
            cluster=cluster,
            drain_s=0.0 if cluster else max(one.longest_drain_s for one in services),
        )
        self.replicas = {deployment(model.id): replica_bounds(model)[0] for model in models}
        """At least how many of each deployment are to start."""

    def start(self) -> None:
        """Returns at once; `readiness` tells how far it is. Raises CannotStart without the MPS it was to have."""
        variables = self._environment
        self.log.recent.clear()
        self._launch.save()
        if self._mps is not None:
            self._mps.start(variables)
            variables = variables | self._mps.variables
        with self.log.path.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "ray.serve.scripts", "run", str(self.settings.config)],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=variables,
                start_new_session=True,
            )
        self._launch = replace(self._launch, child=identity(self._child.pid))
        self._launch.save()

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

    def stop(self, say: Callable[[str], None]) -> None:
        """End it politely, for a bounded time."""
        Running(self.family, self._launch.child, self._launch.drain_s).stop(say)
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
