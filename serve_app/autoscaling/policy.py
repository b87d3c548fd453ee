"""How many replicas the demand asks for, decided from what they report. No clock, no Ray: a simulator runs it as it is.

Each observation gives a need, in replicas. Replicas come once a need for them has lasted `upscale_delay_s`, at once
when requests queue. They go once there was no need for them, however short, for `downscale_delay_s`: so they come soon,
go late, and never go within the down delay of having come. The rule is that of Kubernetes' stabilisation windows: up to
the lowest of the lately seen needs, down to the highest.
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
"""Requests that wait, as a share of the slots there are, beyond which they do not wait for the up delay as well."""
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
class Demand:
    """An observation, summed up over replicas."""

    replicas: int
    running: float
    waiting: float
    """In replicas' queues."""
    held: float
    kv_usage: float
    """In caches of one replica's size."""
    output_tokens_per_s: float
    ttft_s: float
    """Mean of the replicas that have one; 0 without."""

    @classmethod
    def of(cls, seen: Observation) -> Demand:
        ttfts = [one.ttft_s for one in seen.replicas if one.ttft_s]
        return cls(
            replicas=len(seen.replicas),
            running=sum(one.running for one in seen.replicas),
            waiting=sum(one.waiting for one in seen.replicas),
            held=seen.held,
            kv_usage=sum(one.kv_usage for one in seen.replicas),
            output_tokens_per_s=sum(one.output_tokens_per_s for one in seen.replicas),
            ttft_s=sum(ttfts) / len(ttfts) if ttfts else 0.0,
        )

    @property
    def requests(self) -> float:
        return self.running + self.waiting + self.held


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
        self._slots = settings.target_load * max_running
        self._sustained = _Extreme(operator.le, settings.upscale_delay_s)
        self._peak = _Extreme(operator.ge, settings.downscale_delay_s)
        self._began = False

    def decide(self, seen: Observation) -> Decision:
        """The replicas there should be from now on. Call it at least once a second."""
        demand = Demand.of(seen)
        needs = self._needs(demand)
        cause, most = max(needs.items(), key=operator.itemgetter(1))
        need = math.ceil(most - SLACK)
        if silent := not seen.replicas and not seen.held and seen.target > 0:
            need = seen.target
        if not self._began:
            # What there is when the policy starts, or starts anew, was needed until now: no delay is skipped.
            self._began = True
            self._sustained.add(seen.at_s, seen.target)
            self._peak.add(seen.at_s, seen.target)
        sustained, peak = self._sustained.add(seen.at_s, need), self._peak.add(seen.at_s, need)
        counts = max(need if self._queues(demand) else sustained, min(seen.target, peak))
        replicas = min(self._settings.max_replicas, max(self._settings.min_replicas, counts))
        why = "no replica has reported yet" if silent else self._why(cause, most, demand)
        return Decision(replicas, self._reason(why, need, counts, replicas), needs)

    def _needs(self, demand: Demand) -> dict[str, float]:
        """Replicas by cause, before delays and bounds."""
        settings = self._settings
        # Those that wait will need as much KV cache as those that run.
        kv_usage = demand.kv_usage * (demand.requests / demand.running if demand.running else 1.0)
        needs = {"slots": demand.requests / self._slots, "kv_cache": kv_usage / settings.target_kv_usage}
        if settings.tokens_per_s is not None:
            needs["tokens"] = demand.output_tokens_per_s / settings.tokens_per_s
        if settings.ttft_target_s is not None:
            slow = demand.ttft_s > settings.ttft_target_s and self._queues(demand)
            step = min(TTFT_STEP, demand.ttft_s / settings.ttft_target_s)
            needs["ttft"] = demand.replicas * step if slow else 0.0
        return needs

    def _queues(self, demand: Demand) -> bool:
        return demand.waiting + demand.held > QUEUED * self._max_running * demand.replicas

    def _why(self, cause: str, need: float, demand: Demand) -> str:
        if not need:
            return "nothing to do"
        settings = self._settings
        facts = {
            "slots": f"{demand.requests:.0f} requests at {self._slots:.3g} a replica",
            "kv_cache": f"the requests need {need * settings.target_kv_usage:.0%} of a replica's KV cache",
            "tokens": f"{demand.output_tokens_per_s:.0f} tokens/s at {settings.tokens_per_s or 0:.0f} a replica",
            "ttft": f"TTFT {demand.ttft_s:.2f} s is above {settings.ttft_target_s or 0:g} s",
        }
        return f"{facts[cause]}: {need:.1f} ({cause})"

    def _reason(self, why: str, need: int, counts: int, replicas: int) -> str:
        settings = self._settings
        if need > counts:
            why += f"; counts once it has lasted {settings.upscale_delay_s:g} s"
        elif need < counts:
            why += f"; {counts} were needed within the last {settings.downscale_delay_s:g} s"
        if replicas < counts:
            why += f"; max_replicas is {replicas}"
        elif replicas > counts:
            why += f"; min_replicas is {replicas}"
        return why


class _Extreme:
    """The highest, or the lowest, of the values of the last `window_s`."""

    def __init__(self, beats: Callable[[int, int], bool], window_s: float) -> None:
        self._beats = beats
        self._window_s = window_s
        self._values: deque[tuple[float, int]] = deque()
        """Each beats all that came after it, so the extreme is the first."""

    def add(self, at_s: float, value: int) -> int:
        """Take in a value; the extreme now."""
        values = self._values
        while values and self._beats(value, values[-1][1]):
            values.pop()
        values.append((at_s, value))
        while values[0][0] < at_s - self._window_s:
            values.popleft()
        return values[0][1]
