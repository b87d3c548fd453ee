"""What is asked of a model, from what its replicas report: requests in progress, tokens a second, KV cache.

Counted are sequences, here and in the policy: a request for n answers is n of what is called a request.

Requests that queue say that there are too few replicas, not how many are missing: they pile up for as long as the
missing ones take to start. By Little's law the requests that would be in progress if nobody waited are the arrivals a
second times the seconds one is in an engine's batch. That is known a moment after load has changed, and queues do not
change it.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from serve_app.autoscaling.arrivals import BLUR_S, Rate
from serve_app.replica.protocol import LOOK_BACK_S, RATES_OVER_S, ReplicaSignals

TYPICAL_OVER_S = 60.0
"""How fast it is forgotten what a request is like: its time in the batch, its tokens a second, its KV cache."""
QUEUED = 0.1
"""The share beyond which requests are said to queue: of all slots, those that exceed them; of one replica's slots,
those in its queue; of all requests, those that wait."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of a model's replicas at a time."""

    at_s: float
    """On the caller's clock, which never goes back."""
    replicas: tuple[ReplicaSignals, ...]
    """Those that are ready and have reported."""
    target: int
    """Replicas wanted now; those beyond `replicas` are still starting."""
    queued: float
    """Requests that wait elsewhere for want of a replica: at the ingress, in a batch's backlog."""
    refused_per_s: float = 0.0
    """Requests a second that found no replica and were sent away, at the ingress."""


@dataclass(frozen=True, slots=True)
class Totals:
    """An observation, summed up over replicas."""

    replicas: int
    running: float
    waiting: float
    """In replicas' queues."""
    queued: float
    """Outside replicas."""
    arrivals_per_s: float
    """Accepted by replicas."""
    refused_per_s: float
    """Sent away."""
    kv_usage: float
    """In caches of one replica's size."""
    output_tokens_per_s: float
    ttft_s: float
    """Mean of the replicas that have one; 0 without."""
    service_s: float
    """Mean time in the batch of the replicas that have one; 0 without."""

    @classmethod
    def of(cls, seen: Observation) -> Totals:
        replicas = seen.replicas
        return cls(
            replicas=len(replicas),
            running=sum(one.running for one in replicas),
            waiting=sum(one.waiting for one in replicas),
            queued=seen.queued,
            arrivals_per_s=sum(one.arrivals_per_s for one in replicas),
            refused_per_s=seen.refused_per_s,
            kv_usage=sum(one.kv_usage for one in replicas),
            output_tokens_per_s=sum(one.output_tokens_per_s for one in replicas),
            ttft_s=_mean([one.ttft_s for one in replicas if one.ttft_s]),
            service_s=_mean([one.service_s for one in replicas if one.service_s]),
        )

    @property
    def requests(self) -> float:
        return self.running + self.waiting + self.queued


@dataclass(frozen=True, slots=True)
class Demand:
    """What the replicas together should be able to carry."""

    requests: float
    """In progress at the same time, by what arrives."""
    lasting: float
    """In progress at the same time, by what arrives and by what is there: counts only if it is still there after a
    while."""
    kv_usage: float
    """In caches of one replica's size."""
    output_tokens_per_s: float
    backlog: float
    """Requests that will wait by the time replicas are ready; 0 where their start-up time is not known."""
    jumped: bool
    """Arrivals have just become more by more than chance."""
    overflows: bool
    """There are more requests than slots."""
    settled: bool
    """No replica is so new that what it reports is a queue it was handed, not what arrives."""
    waits: bool
    """Some requests wait, for slots or for anything else."""
    crowded: bool
    """Every replica has a queue, and none is starting or has just started."""


class Estimator:
    """Turns observations into demand; remembers what a request is like."""

    def __init__(self, max_running: int, slots: float, startup_s: float | None = None) -> None:
        """`max_running` is one replica's, `slots` those of them that are meant to be busy; `startup_s` is how long
        replicas take to start, where that is known."""
        self._max_running = max_running
        self._slots = slots
        self._startup_s = startup_s
        self._ordered_at: float | None = None
        self._arrivals = Rate()
        self._service_s = _Typical()
        self._kv_usage = _Typical()
        self._output_tokens_per_s = _Typical()
        self._queued: deque[tuple[float, float]] = deque()
        self._growths: deque[tuple[float, float]] = deque()
        self._before: float | None = None
        self._replicas: int | None = None
        self._settled_at = self._whole_at = -math.inf

    def demand(self, seen: Observation, totals: Totals) -> Demand:
        since = 0.0 if self._before is None else seen.at_s - self._before
        self._before = seen.at_s
        if totals.running:
            if totals.service_s:
                self._service_s.add(totals.service_s * since, since, since)
            self._kv_usage.add(totals.kv_usage * since, totals.running * since, since)
            self._output_tokens_per_s.add(totals.output_tokens_per_s * since, totals.running * since, since)
        settled = self._settled(seen)
        complete = settled and seen.target <= totals.replicas
        # What waits while replicas start, or have not had the time to take it, keeps these and orders no more.
        most = math.inf if complete else seen.target * self._slots
        growth = self._growth(seen.at_s, totals.queued)
        # Who gave up waiting made the queue shorter, and is among those refused.
        arrivals_per_s = max(0.0, totals.arrivals_per_s + growth + totals.refused_per_s)
        if seen.at_s >= self._whole_at:
            self._arrivals.add(seen.at_s, arrivals_per_s)
        # A rare request needs its replica while it is there, not for as long as a rate remembers it.
        idle = not totals.requests and not arrivals_per_s
        requests = 0.0 if idle else self._arrivals.per_s * (self._service_s.value or 0.0)
        if not totals.replicas or self._service_s.value is None:
            requests = max(requests, min(totals.requests, most))
        waits = totals.waiting + totals.queued > QUEUED * totals.requests
        queues = [one.waiting > QUEUED * self._max_running for one in seen.replicas]
        return Demand(
            requests=requests,
            # Replicas that work off a queue are busier than what arrives will keep them.
            lasting=max(requests, min(totals.queued + (0.0 if waits else totals.running), most)),
            kv_usage=max(totals.kv_usage, requests * (self._kv_usage.value or 0.0)),
            output_tokens_per_s=max(totals.output_tokens_per_s, requests * (self._output_tokens_per_s.value or 0.0)),
            backlog=self._backlog(seen, totals, requests),
            jumped=self._arrivals.jumped(seen.at_s),
            overflows=totals.requests > (1 + QUEUED) * self._max_running * totals.replicas,
            settled=settled,
            waits=waits,
            crowded=bool(queues) and all(queues) and complete,
        )

    def _backlog(self, seen: Observation, totals: Totals, requests: float) -> float:
        """What waits, and what of `requests` will have found no slot by the time replicas ordered now are ready, or
        those ordered already."""
        if self._startup_s is None:
            return 0.0
        if seen.target <= totals.replicas:
            self._ordered_at = None
        elif self._ordered_at is None:
            self._ordered_at = seen.at_s
        left_s = self._startup_s if self._ordered_at is None else self._ordered_at + self._startup_s - seen.at_s
        excess = max(0.0, requests - self._max_running * totals.replicas)
        grows_per_s = excess / self._service_s.value if self._service_s.value else 0.0
        return totals.waiting + totals.queued + grows_per_s * max(0.0, left_s)

    def _settled(self, seen: Observation) -> bool:
        """Whether no replica has come within the time that rates look back: a new one gets what waits at a stroke.

        One that has gone took along what it had accepted within that time: arrivals count again when it has passed.
        """
        before, self._replicas = self._replicas, len(seen.replicas)
        if before is not None and before != self._replicas:
            self._whole_at = seen.at_s + BLUR_S
            if before < self._replicas:
                self._settled_at = self._whole_at
        return seen.at_s >= self._settled_at

    def _growth(self, at_s: float, queued: float) -> float:
        """Requests a second by which what is queued grows, or shrinks as replicas take it, who report it as arrivals.

        They do so for the time that rates look back, and for longer through the means over LOOK_BACK_S.
        """
        self._queued.append((at_s, queued))
        while self._queued[0][0] < at_s - RATES_OVER_S:
            self._queued.popleft()
        growth = (queued - self._queued[0][1]) / RATES_OVER_S
        self._growths.append((at_s, growth))
        while self._growths[0][0] < at_s - LOOK_BACK_S:
            self._growths.popleft()
        return min(growth, _mean([growth for _, growth in self._growths]))


class _Typical:
    """A ratio of two sums in which what is long ago counts little."""

    def __init__(self) -> None:
        self._above = self._below = 0.0

    def add(self, above: float, below: float, since_s: float) -> None:
        keep = math.exp(-since_s / TYPICAL_OVER_S)
        self._above = keep * self._above + above
        self._below = keep * self._below + below

    @property
    def value(self) -> float | None:
        """None before anything was added."""
        return self._above / self._below if self._below else None


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
