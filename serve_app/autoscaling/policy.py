"""How many replicas the demand asks for, decided from what they report. No clock, no Ray: a simulator runs it as it is.

Each observation gives a need, in replicas. A need counts once it has lasted `upscale_delay_s`, or at once when
requests queue; and it counts for `downscale_delay_s` from then on. The decision is the highest need that counts, so
replicas come soon, go late, and never go within the down delay of having come.
"""

from __future__ import annotations

import math
import operator
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from serve_app.config import Autoscaling
from serve_app.replica import ReplicaSignals

QUEUED = 0.1
"""Requests that wait, as a share of the slots there are, from which on they do not wait for the up delay too."""
TTFT_STEP = 1.5
"""The most a TTFT above its target multiplies the ready replicas by: it says that there are too few, not how many."""
SLACK = 1e-6
"""A need this little above a whole number is rounding."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of a model's replicas at a time."""

    at_s: float
    """On the caller's clock, which never goes back."""
    replicas: tuple[ReplicaSignals, ...]
    """Those that are ready and have reported."""
    target: int
    """Replicas wanted now; those beyond `replicas` are still starting."""
    held: float
    """Requests held elsewhere for want of a replica: at the ingress, in a batch's backlog."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How many replicas there should be."""

    replicas: int
    reason: str
    """For people."""
    needs: dict[str, float]
    """Replicas by what needs them: slots, kv_cache, tokens, ttft."""


class Policy:
    """Decides for one model, again and again; remembers what it has seen for as long as its delays."""

    def __init__(self, settings: Autoscaling, max_running: int) -> None:
        """`max_running` is one replica's."""
        self._settings = settings
        self._max_running = max_running
        self._sustained = _Extreme(operator.le, settings.upscale_delay_s)
        self._wanted = _Extreme(operator.ge, settings.downscale_delay_s)
        self._began = False

    def decide(self, seen: Observation) -> Decision:
        """The replicas there should be from now on. Call it at least once a second."""
        needs = self.needs(seen)
        cause, most = max(needs.items(), key=operator.itemgetter(1))
        need = math.ceil(most - SLACK)
        if not self._began:
            self._began = True
            self._sustained.add(seen.at_s, seen.target)
            self._wanted.add(seen.at_s, seen.target)
        if not seen.replicas and seen.target and not seen.held:
            need = seen.target
        sustained = self._sustained.add(seen.at_s, need)
        counts = self._wanted.add(seen.at_s, need if self._queues(seen) else sustained)
        replicas = min(self._settings.max_replicas, max(self._settings.min_replicas, counts))
        return Decision(replicas, cause, needs)

    def needs(self, seen: Observation) -> dict[str, float]:
        """Replicas by cause, before delays and bounds."""
        settings, replicas = self._settings, seen.replicas
        running = sum(one.running for one in replicas)
        requests = running + sum(one.waiting for one in replicas) + seen.held
        needs = {"slots": requests / (settings.target_load * self._max_running)}
        kv_usage = sum(one.kv_usage for one in replicas)
        needs["kv_cache"] = kv_usage * max(1.0, requests / running if running else 1.0) / settings.target_kv_usage
        if settings.tokens_per_s is not None:
            needs["tokens"] = sum(one.output_tokens_per_s for one in replicas) / settings.tokens_per_s
        if settings.ttft_target_s is not None:
            needs["ttft"] = self._ttft_need(seen, settings.ttft_target_s)
        return needs

    def _ttft_need(self, seen: Observation, target_s: float) -> float:
        """More than there are while the TTFT is above its target and requests wait; else nothing."""
        served = [one.ttft_s for one in seen.replicas if one.ttft_s]
        ttft_s = sum(served) / len(served) if served else 0.0
        if ttft_s <= target_s or not self._queues(seen):
            return 0.0
        return len(seen.replicas) * min(TTFT_STEP, ttft_s / target_s)

    def _queues(self, seen: Observation) -> bool:
        waiting = seen.held + sum(one.waiting for one in seen.replicas)
        return waiting > QUEUED * self._max_running * len(seen.replicas)


class _Extreme:
    """The highest (or lowest) of the values of the last `window_s`."""

    def __init__(self, beats: Callable[[int, int], bool], window_s: float) -> None:
        self._beats = beats
        self._window_s = window_s
        self._values: deque[tuple[float, int]] = deque()

    def add(self, at_s: float, value: int) -> int:
        """Take in a value; the extreme now."""
        values = self._values
        while values and self._beats(value, values[-1][1]):
            values.pop()
        values.append((at_s, value))
        while values[0][0] < at_s - self._window_s:
            values.popleft()
        return values[0][1]
