"""Who decides how many replicas there are: this project's policy, and others' as their authors run them.

A scaler sees what this project's policy sees, every REPORT_PERIOD_S, and says how many replicas it wants. A new one is
a function here, named in SCALERS; the options of `--policy name:option=value` are its keyword arguments.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from loadtests import arguments
from loadtests.planner.tuning.oracle import Oracle
from serve_app.autoscaling.policy import Observation, Policy
from serve_app.config.schema import Autoscaling
from serve_app.replica.protocol import REPORT_PERIOD_S

HPA_TOLERANCE = 0.1
"""A HorizontalPodAutoscaler changes nothing while its metric is within this share of the target."""
HPA_PODS = 4
"""A HorizontalPodAutoscaler adds at most so many replicas at a time, or as many as there are."""


@dataclass(frozen=True)
class Scaler:
    """A policy during one run; may remember what it has seen."""

    decide: Callable[[Observation], int]
    """Replicas wanted from now on."""
    first: int | None = None
    """Replicas to start with, where that is not the configuration's to say."""
    standby: int = 0
    """Further replicas that it keeps asleep."""


@dataclass(frozen=True)
class ScalerInputs:
    """What a scaler is told before a run."""

    settings: Autoscaling
    max_running: int
    """Sequences that one replica runs at the same time at most."""
    oracle: Callable[[], Oracle]
    """The fewest replicas over time, of one who knows every arrival."""

    @property
    def per_replica(self) -> float:
        """Requests that one replica is meant to have in progress."""
        return self.settings.target_load * self.max_running

    def bounded(self, replicas: float) -> int:
        """A wish as a whole number within the configured bounds."""
        return min(self.settings.max_replicas, max(self.settings.min_replicas, math.ceil(replicas)))


def ours(inputs: ScalerInputs) -> Scaler:
    """This project's policy, `serve_app.autoscaling.policy`."""
    policy = Policy(inputs.settings, inputs.max_running)
    return Scaler(lambda seen: policy.decide(seen).replicas, standby=inputs.settings.standby)


def fixed(inputs: ScalerInputs, replicas: float = 0) -> Scaler:
    """Always the same number of replicas: as many as there may be unless said. Raises ValueError for a fraction."""
    if replicas < 0 or replicas != int(replicas):
        raise ValueError(f"a fixed number of replicas is whole; got {replicas:g}")
    count = int(replicas) or inputs.settings.max_replicas
    return Scaler(lambda seen: count, count)


def oracle(inputs: ScalerInputs) -> Scaler:
    """The plan of one who knows every arrival: replicas are ordered a start-up time before they are needed."""
    plan = inputs.oracle()

    def decide(seen: Observation) -> int:
        # A decision holds until the next, half a second on: what is ordered then must be ordered now.
        at = int((seen.at_s + REPORT_PERIOD_S) / plan.step_s)
        return plan.replicas[min(at, len(plan.replicas) - 1)]

    return Scaler(decide, plan.replicas[0])


def serve(
    inputs: ScalerInputs,
    target: float = 0,
    upscale_delay: float = 30,
    downscale_delay: float = 600,
    look_back: float = 30,
) -> Scaler:
    """Ray Serve's own policy on ongoing requests, with its own defaults but for the target: unless given, what ours
    aims at. (Serve's is 2, which would give an engine that runs hundreds of requests almost nothing to do.)"""
    from loadtests.planner.simulation.serve_default import ServeDefaultPolicy

    if min(target, upscale_delay, downscale_delay) < 0 or look_back <= 0:
        raise ValueError("target and delays must not be below 0, and look_back must be above it")

    policy = ServeDefaultPolicy(inputs.settings, target or inputs.per_replica, upscale_delay, downscale_delay)
    totals: deque[float] = deque(maxlen=max(1, round(look_back / REPORT_PERIOD_S)))

    def decide(seen: Observation) -> int:
        totals.append(seen.queued + sum(one.running + one.waiting for one in seen.replicas))
        return policy.decide(seen.at_s, len(seen.replicas), seen.target, sum(totals) / len(totals))

    return Scaler(decide)


def keda(
    inputs: ScalerInputs,
    threshold: float = 5,
    polling: float = 15,
    stabilization: float = 300,
    metric: str = "waiting",
) -> Scaler:
    """Queue depth as KEDA setups for vLLM have it: the sum of vllm:num_requests_waiting against an average of 5.

    The figures are those of vLLM production-stack's example (docs.vllm.ai/projects/production-stack, "Autoscaling with
    KEDA"); what is queued at the ingress counts as waiting. `metric=requests` counts running requests too. KEDA makes a
    Kubernetes HorizontalPodAutoscaler of it (keda.sh, "ScaledObject specification"; an AverageValue metric), which each
    15 s wants ceil(sum / threshold) replicas, changes nothing within 10 % of that, at most doubles or adds 4, and goes
    down to the highest wish of the last 300 s (kubernetes.io, "Horizontal Pod Autoscaling").
    """
    if metric not in ("waiting", "requests"):
        raise ValueError(f"metric is waiting or requests; got {metric!r}")
    if threshold <= 0 or polling <= 0 or stabilization < 0:
        raise ValueError("threshold and polling must be above 0, and stabilization not below it")
    next_at = 0.0
    wishes: deque[tuple[float, int]] = deque()

    def decide(seen: Observation) -> int:
        nonlocal next_at
        if seen.at_s < next_at:
            return seen.target
        next_at = seen.at_s + polling
        total = seen.queued + sum(one.waiting + (one.running if metric == "requests" else 0) for one in seen.replicas)
        now = seen.target
        if not wishes:
            wishes.append((seen.at_s, now))
        wish = math.ceil(total / threshold)
        if now and abs(total / (threshold * now) - 1) <= HPA_TOLERANCE:
            wish = now
        wish = inputs.bounded(min(wish, max(2 * now, now + HPA_PODS)))
        wishes.append((seen.at_s, wish))
        while wishes[0][0] < seen.at_s - stabilization:
            wishes.popleft()
        return wish if wish >= now else min(now, max(one for _, one in wishes))

    return Scaler(decide)


SCALERS: Mapping[str, Callable[..., Scaler]] = {
    "ours": ours,
    "serve": serve,
    "keda": keda,
    "fixed": fixed,
    "oracle": oracle,
}


def make(text: str, inputs: ScalerInputs) -> Scaler:
    """`ours`, `keda:threshold=20,polling=15`, ...; raises BadSpec."""
    return arguments.call_spec({name: partial(function, inputs) for name, function in SCALERS.items()}, text, "policy")
