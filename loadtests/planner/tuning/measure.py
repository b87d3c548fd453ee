"""Measurements of a running service: one step of constant load, the replay of a traffic, the start-up time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import fmean
from typing import NamedTuple

from loadtests.bench.peers.peer import RunningPeer
from loadtests.loadgen import locust_run
from loadtests.loadgen.options import EPOCH_SIGN
from loadtests.planner.tuning.step import Step
from loadtests.planner.tuning.watch import Watch, look
from loadtests.results.record import Record
from loadtests.results.replicas import ReplicaCounts
from loadtests.results.slo import Slo
from serve_app.launching.events import startup_s

MOST_PROBING_USERS = 16
"""Users of the closed loop that a service is first put under."""
LEAST_REQUESTS = 40
"""A slow rate is offered until so many requests are due, up to LONGEST times as long as others."""
LONGEST = 3.0


@dataclass(frozen=True)
class RequestSpec:
    """What the requests of a load test are like."""

    model: str
    lengths: str
    """Tokens of prompts and answers, as `loadtests.loadgen.lengths` reads it."""
    scenario: str
    """What users ask, as `loadtests.loadgen.scenarios` reads it."""
    seed: int
    """Of lengths and texts, and of arrivals where a load is replayed."""
    slo: Slo
    api_key: str = ""
    characters_per_token: float = 4.0
    asked: str = ""
    """The names that they give, by weight, as `loadtests.loadgen.scenarios` reads them; the model's unless set."""


class Replayed(NamedTuple):
    """What was seen of a service while a traffic was on it."""

    records: list[Record]
    samples: list[ReplicaCounts]
    began: float
    """When the traffic's time begins, seconds since the epoch."""


class ServiceUnderTest:
    """A running service, and the loads put on it."""

    def __init__(self, running: RunningPeer, requests: RequestSpec, folder: Path, clients: int = 1) -> None:
        """`clients` is how many processes send the requests."""
        self.running = running
        self._clients = clients
        self._url = running.peer.url
        self._requests = requests
        self._folder = folder

    def startup_s(self, replicas: int) -> float:
        """How long so many replicas took from their deployment until they were ready, in seconds."""
        return startup_s(self.running.events(), self._requests.model, replicas)

    def probe(self, users: int, seconds: float) -> tuple[float, float]:
        """(requests/s answered, mean time of one in s) under a closed loop of users: about what it can carry."""
        records = self._run(min(users, MOST_PROBING_USERS), seconds, self._folder / "probe.jsonl")
        ok = [one for one in records if one.outcome == "ok"]
        if not ok:
            kinds = ", ".join(sorted({one.detail for one in records})) or "no request ended"
            raise locust_run.LocustFailed(f"the service answered no request of the first load ({kinds})")
        span = max(one.ended_s for one in ok) - min(one.sent_s for one in ok)
        return len(ok) / max(span, 1e-3), fmean(one.latency_s for one in ok)

    def step(self, rate: float, seconds: float, warmup_s: float, repeat: int, replicas_per_gpu: int | None) -> Step:
        """Offer a constant rate as a Poisson process, for so long after a warm-up that does not count."""
        load = f"steady:rate={rate:.6g},duration={warmup_s + seconds:.6g}"
        # Other arrivals at each rate and each repeat: the same would be lucky, or not, everywhere alike.
        seed = self._requests.seed + Random(f"{rate:.6g}/{repeat}").randrange(1_000_000)
        records = self._run(load, None, self._folder / "step.jsonl", seed)
        return Step.of(records, self._requests.slo, rate, seconds, replicas_per_gpu, warmup_s)

    def replay(self, traffic: str, out: Path, title: str) -> Replayed:
        """Offer the traffic, and watch the replicas whose processes' titles begin with `title`."""
        epochs: list[float] = []

        def listen(line: str) -> None:
            if EPOCH_SIGN in line:
                epochs.append(float(line.rpartition(EPOCH_SIGN)[2]))

        began = time.time()
        with Watch(lambda at_s: look(self.running, self._requests.model, title, at_s)) as watch:
            records = self._run(traffic, None, out, progress=listen)
        epoch = epochs[-1] if epochs else began
        samples = [replace(one, at_s=round(one.at_s - (epoch - began), 2)) for one in watch.samples]
        return Replayed(records, samples, epoch)

    def _run(
        self,
        load: str | int,
        seconds: float | None,
        out: Path,
        seed: int | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> list[Record]:
        spec = self._requests
        return locust_run.run(
            self._url,
            spec.asked or spec.model,
            load,
            spec.lengths,
            seconds,
            out=out,
            workers=self._clients,
            scenario=spec.scenario,
            seed=spec.seed if seed is None else seed,
            slo=str(spec.slo),
            api_key=spec.api_key,
            options={"characters-per-token": f"{spec.characters_per_token:g}"},
            progress=progress,
        )


def step_seconds(rate: float, seconds: float) -> float:
    """How long a rate is offered: `seconds`, or as long as LEAST_REQUESTS take, up to LONGEST times that."""
    return min(LONGEST * seconds, max(seconds, LEAST_REQUESTS / rate))
