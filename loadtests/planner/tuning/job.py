"""What one tuning is about, and what each of its phases needs: measurements so far, progress, a service to put load on.

The phases themselves are in `tuner`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench.peers.configured import ConfiguredModel
from loadtests.bench.peers.peer import Peer, RunningPeer
from loadtests.loadgen.traffic import Traffic
from loadtests.planner.tuning import packing
from loadtests.planner.tuning.measure import RequestSpec, ServiceUnderTest
from loadtests.planner.tuning.progress import TerminalProgress
from loadtests.planner.tuning.prove import Criteria
from loadtests.planner.tuning.state import State
from serve_app.launching.environment import free_ports
from serve_app.planning.resolve import replica_bounds

START_S = 30.0
"""What the start and stop of a service take, roughly; for the time left."""
STEPS = 8
"""Rates that a search measures, roughly; for the time left."""
OVERHEAD_S = 4.0
"""What a load test takes beside its load, roughly; for the time left."""

MakePeer = Callable[[int, Path], Peer]
"""(port, a folder of its own) -> a service to start there."""


@dataclass(frozen=True)
class Effort:
    """How long and how often to measure."""

    step_s: float = 15.0
    """How long a rate is offered, s."""
    repeats: int = 3
    """How often a doubtful rate is measured at most."""
    tolerance: float = 0.08
    """How far apart the rates around the knee may be in the end, as a share of the lower."""
    most_rate: float = float("inf")
    """No more is offered to one replica, requests/s."""


QUICK = Effort(step_s=8.0, repeats=2, tolerance=0.15)


@dataclass
class TuningJob:
    """One model of one configuration, under one SLO and one traffic."""

    source: ConfiguredModel
    requests: RequestSpec
    traffic: Traffic
    traffic_spec: str
    """The traffic as the command line gives it."""
    effort: Effort
    gpus: int
    """GPUs of this machine."""
    most_replicas: int | None
    """The most that the user allows; None for what the machine has room for."""
    criteria: Criteria
    contenders: Sequence[str]
    """What the tuned configuration is compared with: of `default` and `serve`."""
    state: State
    tuned_path: Path
    """Where the tuned configuration is written."""
    report_name: str
    """The report's file name, for the tuned configuration to point to."""
    up_options: tuple[str, ...] = ()
    """Further options of `serve-app up` for this project's services."""
    clients: int = 1
    """Processes that send the requests."""

    def __post_init__(self) -> None:
        self.progress = TerminalProgress(self.expected_s())

    @property
    def packings(self) -> tuple[int, ...]:
        """Replicas on a GPU to try; none where the model does not run on a GPU here."""
        return packing.to_try(self.source.model, self.gpus)

    @property
    def limit(self) -> int:
        """Replicas that may be asked for in the best packing."""
        return self.most_replicas or self._room(packing.best(self.state.knees) or 1)

    def expected_s(self) -> float:
        """How long what is left to do takes, roughly, s."""
        searches = len(self.packings) or 1
        search_s = STEPS * (self.effort.step_s + OVERHEAD_S) + START_S
        replays = 1 + len(self.contenders) - len(self.state.replays)
        return (0.0 if self.state.knees else searches * search_s) + replays * (self.traffic.duration_s + START_S)

    @contextmanager
    def serving(self, make: MakePeer) -> Iterator[ServiceUnderTest]:
        """A service that is started on a free port, with a folder of its own, and stopped at the end."""
        with tempfile.TemporaryDirectory(prefix="tune-") as name, ExitStack() as stack:
            folder = Path(name)
            starting = make(free_ports(1)[0], folder)
            with self.progress.during(f"starting: {starting.name}", START_S):
                running = stack.enter_context(RunningPeer(starting, self.source.setup, folder))
            yield ServiceUnderTest(running, self.requests, folder, self.clients)

    def _room(self, per_gpu: int) -> int:
        """Replicas of this model that the machine has room for: on its GPUs, or beside all else on its cores."""
        model = self.source.model
        if model.autoscaling is not None:
            return model.autoscaling.max_replicas
        if self.packings:
            return self.gpus * per_gpu
        others = sum(replica_bounds(one)[0] * one.cpus for one in self.source.service.models if one.id != model.id)
        ingress = self.source.service.ingress
        free = (os.cpu_count() or 1) - others - ingress.replicas * ingress.cpus
        return max(1, int(free / model.cpus + 1e-9)) if model.cpus else 8
