"""One service on this machine: `serve run` and everything it starts, what happens to it, and its end."""

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from serve_app.compat.serve_log import MILESTONES, NODE_TOO_SLOW
from serve_app.config.names import deployment
from serve_app.config.schema import ServiceConfig
from serve_app.launching.drain import drain
from serve_app.launching.environment import environment
from serve_app.launching.events import (
    Ended,
    Event,
    IngressAnswers,
    Milestone,
    Ready,
    ReplicaOrdered,
    ReplicaReady,
    StartedAgain,
    Trouble,
)
from serve_app.launching.launches import Launch
from serve_app.launching.log import ENDING_S, ServiceLog, important
from serve_app.launching.mps import Mps
from serve_app.launching.processes import Family, Identity, identity, is_alive
from serve_app.launching.settings import LaunchSettings
from serve_app.planning.resolve import replica_bounds, resolve

STOP_TIMEOUT_S = 40.0
"""For Serve and Ray to shut down; about 8 s with nothing open."""
POLL_S = 0.3
"""How often a service that is starting, or whose replicas are, is looked at."""
READY_TIMEOUT_S = 5.0
CALM_S = 5.0
"""How often one is looked at whose replicas are all there, and its processes are counted, so that none is forgotten."""


@dataclass(frozen=True)
class Readiness:
    """What /ready said."""

    ready: bool
    models: dict[str, dict[str, int]]


class ServiceProcesses:
    """The processes of a launch, whoever started them."""

    def __init__(self, family: Family, child: Identity | None, drain_s: float) -> None:
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


class LocalService:
    """A service on this machine: started, watched, stopped."""

    def __init__(
        self,
        settings: LaunchSettings,
        folder: Path,
        cluster: str | None,
        services: Sequence[ServiceConfig],
        mps: Mps | None = None,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`variables` go over the environment that `up` was started in."""
        self.settings = settings
        self.folder = folder
        self.log = ServiceLog(folder / "service.log")
        self._mps = mps
        self._has_console = any(one.ingress.console for one in services)
        models = [model for one in services for model in resolve(one).config.models]
        launch_id = uuid.uuid4().hex
        self._environment = environment(launch_id, folder, services) | {"RAY_ADDRESS": cluster or "local", **variables}
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
        self._began = time.monotonic()
        self._answers = self._is_ready = False
        self._ready: dict[str, int] = {}
        self._wanted: dict[str, int] = {}
        self.replicas = {deployment(model.id): replica_bounds(model)[0] for model in models}
        """At least how many of each deployment are to start."""

    def start(self) -> None:
        """Returns at once; `events` tells how far it is. Raises CannotStart without the MPS it was to have."""
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

    def events(self) -> Iterator[Event]:
        """What happens to the started service, as it is seen; the last is Ended. Blocks between them."""
        again, counted = False, time.monotonic()
        while True:
            ended = self.ended
            yield from self._news()
            if (reason := self._failure(ended)) is not None:
                if again or self._is_ready or not any(NODE_TOO_SLOW in line for line in self.log.recent):
                    yield Ended(at_s=self._now(), reason=reason)
                    return
                again = True
                yield StartedAgain(at_s=self._now())
                self.sweep(3.0)
                self.start()
            yield from self._changes()
            if time.monotonic() - counted > CALM_S:
                counted = time.monotonic()
                self.family.members()
            self._pause()

    def _now(self) -> float:
        return round(time.monotonic() - self._began, 3)

    def _news(self) -> Iterator[Event]:
        """What the log has to say since the last time."""
        lines = self.log.news()
        if not self._answers:
            reached = (text for line in lines for sign, text in MILESTONES.items() if sign in line)
            yield from (Milestone(at_s=self._now(), reached=text) for text in reached)
        for text in self.log.fresh(filter(None, map(important, lines))):
            yield Trouble(at_s=self._now(), text=text)

    def _failure(self, ended: bool) -> str | None:
        """Why the service cannot start, or has ended by itself; None while neither is so."""
        if self._is_ready:
            return self.log.reason(ENDING_S) if ended else None
        repeated = self.log.failures.repeated(self.replicas)
        return repeated or self.log.reason() if ended or self.log.failed or repeated else None

    def _changes(self) -> Iterator[Event]:
        """Replicas that were ordered, came or went."""
        if (state := self.readiness()) is None:
            return
        if not self._answers:
            self._answers = True
            yield IngressAnswers(at_s=self._now(), models=list(state.models))
        for model, count in state.models.items():
            ready, wanted = count["ready"], count["wanted"]
            if wanted != self._wanted.get(model, 0):
                self._wanted[model] = wanted
                yield ReplicaOrdered(at_s=self._now(), model=model, wanted=wanted)
            if ready != self._ready.get(model, 0):
                self._ready[model] = ready
                yield ReplicaReady(at_s=self._now(), model=model, ready=ready, wanted=wanted)
        if state.ready and not self._is_ready:
            self._is_ready = True
            url = self.settings.url
            console = f"{url}/console" if self._has_console else None
            yield Ready(at_s=self._now(), url=url, models=list(state.models), console=console)

    def _pause(self) -> None:
        """Until it is worth looking again, or the service has ended."""
        calm = self._is_ready and all(self._ready.get(model, 0) >= count for model, count in self._wanted.items())
        until = time.monotonic() + (CALM_S if calm else POLL_S)
        while time.monotonic() < until and not self.ended:
            time.sleep(POLL_S)

    def readiness(self) -> Readiness | None:
        """What /ready says; None while nobody answers."""
        return readiness(self.settings.url, READY_TIMEOUT_S)

    def stop(self, say: Callable[[str], None]) -> None:
        """End it politely, for a bounded time."""
        ServiceProcesses(self.family, self._launch.child, self._launch.drain_s).stop(say)
        if self._mps is not None:
            self._mps.stop(self._environment)

    def sweep(self, patience_s: float) -> list[int]:
        """End whatever is left of it; returns the ids of those that would not."""
        left = self.family.end(patience_s)
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(1)
        return left


def readiness(url: str, timeout_s: float) -> Readiness | None:
    """What /ready of a service says; None while nobody answers within `timeout_s`."""
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=timeout_s) as response:
            return _read(True, response.read())
    except urllib.error.HTTPError as error:
        return _read(False, error.read())
    except OSError:
        return None


def _read(ready: bool, body: bytes) -> Readiness | None:
    """None where it was not our ingress that answered."""
    try:
        data: Any = json.loads(body)
        models = {
            str(name): {"ready": int(n["ready"]), "wanted": int(n["wanted"])} for name, n in data["models"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return Readiness(ready, models)
