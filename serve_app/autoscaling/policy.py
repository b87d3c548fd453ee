"""How many replicas the demand asks for. No clock, no Ray: a simulator runs it as it is.

Each observation gives a need, in replicas. Replicas come once a need for them has lasted `upscale_delay_s`, at once
when arrivals have jumped by more than chance or there are more requests than slots. They go once no moment of
`downscale_delay_s` needed them or kept them busy: so they come soon, go late, and never go within the down delay of
having come. The windows are those of Kubernetes' stabilisation: up to the lowest of the needs seen lately, down to the
highest.
"""

from __future__ import annotations

import math
import operator
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from serve_app.autoscaling.demand import Demand, Estimator, Observation, Totals
from serve_app.config.schema import Autoscaling

__all__ = ["Decision", "Observation", "Policy"]

STEP = 2.0
"""The most that a queue at every replica, or a TTFT above its target, multiplies the replicas by: both say that there
are too few, not how many."""
MARGIN = 0.1
"""A replica goes only if the others would have had this much room to spare, as a share of the need."""
SLACK = 1e-6
"""A need this little above a whole number is rounding."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How many replicas there should be."""

    replicas: int
    reason: str
    """For people."""
    needs: dict[str, float]
    """Replicas by what needs them: slots, backlog, kv_cache, tokens, queue, ttft."""


class Policy:
    """Decides for one model, again and again; remembers what it has seen for as long as its delays."""

    def __init__(self, settings: Autoscaling, max_running: int) -> None:
        """`max_running` is one replica's."""
        self._settings = settings
        self._max_running = max_running
        self._slots = settings.target_load * max_running
        self._estimator = Estimator(max_running, self._slots, settings.startup_s)
        self._sustained = _Extreme(operator.le, settings.upscale_delay_s)
        self._peak = _Extreme(operator.ge, settings.downscale_delay_s)
        self._began = False

    def decide(self, seen: Observation) -> Decision:
        """The replicas there should be from now on. Call it at least once a second."""
        totals = Totals.of(seen)
        demand = self._estimator.demand(seen, totals)
        needs = self._needs(demand, demand.lasting) | self._vague_needs(totals, demand)
        cause, most = max(needs.items(), key=operator.itemgetter(1))
        silent = not seen.replicas and not seen.queued and seen.target > 0
        need = seen.target if silent else _whole(most)

        delayed = self._delayed(seen, need, self._at_once(demand), self._kept_busy(totals, most, silent, need))
        bounded = min(self._settings.max_replicas, max(self._settings.min_replicas, delayed))

        why = "no replica has reported yet" if silent else self._why(cause, most, totals, demand)
        return Decision(bounded, self._reason(why, need, delayed, bounded), needs)

    def _delayed(self, seen: Observation, need: int, at_once: int, kept_busy: int) -> int:
        """Replicas once the delays are heeded: up at once to `at_once`, up to a `need` that has lasted, down to what
        was needed or kept busy at any moment of `downscale_delay_s`."""
        if not self._began:
            # What there is when the policy starts, or starts anew, was needed until now: no delay is skipped.
            self._began = True
            self._sustained.add(seen.at_s, seen.target)
            self._peak.add(seen.at_s, seen.target)
        sustained = self._sustained.add(seen.at_s, need)
        peak = self._peak.add(seen.at_s, kept_busy)
        return max(at_once, sustained, min(seen.target, peak))

    def _at_once(self, demand: Demand) -> int:
        """Replicas that count without a delay: arrivals have jumped by more than chance, or exceed the slots."""
        if not (demand.settled and (demand.overflows or demand.jumped)):
            return 0
        return _whole(max(self._needs(demand, demand.requests).values()))

    def _kept_busy(self, totals: Totals, most: float, silent: bool, need: int) -> int:
        """Replicas that may not go yet: those needed, with MARGIN to spare, and those that are at work."""
        busy = max(totals.running / self._slots, min(1.0, totals.requests))
        return _whole(max(need if silent else most * (1 + MARGIN), busy))

    def _needs(self, demand: Demand, requests: float) -> dict[str, float]:
        """Replicas by cause, before delays and bounds."""
        settings = self._settings
        needs = {"slots": requests / self._slots, "kv_cache": demand.kv_usage / settings.target_kv_usage}
        if settings.startup_s is not None:
            needs["backlog"] = (demand.requests + demand.backlog) / self._max_running if demand.backlog else 0.0
        if settings.tokens_per_s is not None:
            needs["tokens"] = demand.output_tokens_per_s / settings.tokens_per_s
        return needs

    def _vague_needs(self, totals: Totals, demand: Demand) -> dict[str, float]:
        """Replicas by causes that only say that there are too few; they never count at once."""
        queue = min(totals.replicas * STEP, totals.requests / self._slots)
        needs = {"queue": queue if demand.crowded else 0.0}
        if (target_s := self._settings.ttft_target_s) is not None:
            slow = demand.waits and totals.ttft_s > target_s
            needs["ttft"] = totals.replicas * min(STEP, totals.ttft_s / target_s) if slow else 0.0
        return needs

    def _why(self, cause: str, need: float, totals: Totals, demand: Demand) -> str:
        if not need:
            return "nothing to do"
        settings = self._settings
        facts = {
            "slots": f"{demand.lasting:.1f} requests at {self._slots:.3g} a replica",
            "backlog": f"{demand.backlog:.1f} requests will wait by the time replicas are ready",
            "kv_cache": f"the requests need {demand.kv_usage:.0%} of a replica's KV cache",
            "tokens": f"{demand.output_tokens_per_s:.0f} tokens/s at {settings.tokens_per_s or 0:.0f} a replica",
            "queue": f"{totals.waiting + totals.queued:.1f} requests wait, at every replica",
            "ttft": f"TTFT {totals.ttft_s:.2f} s is above {settings.ttft_target_s or 0:g} s",
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


def _whole(need: float) -> int:
    return math.ceil(need - SLACK)
