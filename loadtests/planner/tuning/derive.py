"""From measurements of one replica and a traffic's shape to the numbers of a configuration. Pure functions.

Symbols: c capacity of a replica (requests/s), u target utilisation, S start-up time of a replica (s), R reaction time
(s), W mean time of a request at the knee (s), N requests open at a replica, T the SLO's limit on TTFT (s).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from loadtests.loadgen.traffic import Traffic
from loadtests.planner.tuning.knee import Knee, crossing
from loadtests.planner.tuning.step import Step
from loadtests.results.slo import Slo, Term

OBSERVED_S = 1.0
"""What passes between a change of load and a decision on it: reports, Serve's look-back, a control step."""
LEAST_UTILISATION = 0.6
"""Head-room beyond this is not bought: below it the traffic jumps, and what holds a jump is a queue, not idle
replicas."""
MOST_UTILISATION = 0.95
SAMPLES = 400
"""Points at which a traffic's rate is looked at."""


@dataclass(frozen=True)
class Constraints:
    """What is not the tuner's to choose."""

    max_running: int
    """As configured."""
    max_replicas: int
    """What the machine, or its user, allows."""
    min_replicas: int = 1
    within: float = 0.99
    """Share of requests that the proof wants within the SLO."""


@dataclass(frozen=True)
class Number:
    """One key of the model's entry."""

    key: str
    """With a dot where it lies in a section: `autoscaling.target_load`."""
    value: float | int
    why: str
    """For people: the formula with its figures, and which measurement they are from."""


@dataclass(frozen=True)
class Derived:
    """What the measurements and the traffic come to."""

    capacity: float
    """Requests/s of one replica at the knee."""
    utilisation: float
    """Aimed-at share of it."""
    startup_s: float
    reaction_s: float
    numbers: tuple[Number, ...]
    notes: tuple[str, ...] = ()
    """What the reader should know and no number says."""

    def value(self, key: str) -> float:
        return next(one.value for one in self.numbers if one.key == key)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Derived:
        numbers = tuple(Number(**one) for one in data["numbers"])
        return cls(**{**data, "numbers": numbers, "notes": tuple(data["notes"])})


def derive(
    knee: Knee, steps: Sequence[Step], startup_s: float, slo: Slo, traffic: Traffic, limits: Constraints
) -> Derived:
    """All numbers; `steps` are those the knee was found from."""
    at_knee = nearest(steps, knee.rate)
    reaction_s = startup_s + upscale_delay_s(at_knee.latency_s, startup_s) + OBSERVED_S
    rise = rise_factor(traffic, reaction_s, knee.rate)
    share = utilisation(steady_utilisation(steps, slo, knee.rate, limits.within), rise)
    bounds, notes = _bounds(knee, share, startup_s, reaction_s, rise, traffic, limits)
    if not knee.bounded:
        notes.append(f"The SLO still held at {knee.rate:.3g} requests/s, the highest rate tried: the knee is above it.")
    queues = _queues(knee, at_knee, steps, slo, limits)
    running = next((int(one.value) for one in queues if one.key == "max_running"), limits.max_running)
    pace = _pace(knee, at_knee, concurrency_at(steps, share * knee.rate), running, share, startup_s)
    numbers = (*queues, *bounds, *pace, *_ttft(slo))
    return Derived(knee.rate, share, startup_s, reaction_s, numbers, tuple(notes))


def _queues(knee: Knee, at_knee: Step, steps: Sequence[Step], slo: Slo, limits: Constraints) -> list[Number]:
    """What a replica runs and lets wait."""
    numbers = []
    running, why = bounded_running(at_knee, slo, limits.max_running)
    if knee.bounded and running < limits.max_running:
        numbers.append(Number("max_running", running, why))
    if (ttft := _term(slo, "ttft")) is not None:
        served = max(one.achieved_rate for one in steps)
        alone_s = min(steps, key=lambda one: one.rate).ttft_ms["p50"] / 1000
        rate = f"{served:.3g} requests/s {'at saturation' if knee.bounded else 'or more, saturation was not reached,'}"
        why = f"{rate} x (TTFT limit {ttft.limit_s:g} s - {alone_s:.2g} s unqueued)"
        numbers.append(Number("max_queued", max_queued(served, ttft.limit_s, alone_s), why))
    return numbers


def _bounds(
    knee: Knee, share: float, startup_s: float, reaction_s: float, rise: float, traffic: Traffic, limits: Constraints
) -> tuple[list[Number], list[str]]:
    """Fewest, most and first replicas, and what has to be said of them."""
    notes = []
    jumps = rise > 1 / LEAST_UTILISATION
    if jumps:
        notes.append(
            f"The traffic grows {rise:.1f}-fold within the {reaction_s:.1f} s that new replicas take: no head-room"
            " worth paying for holds that. Requests wait, or are refused, until the new replicas are there."
        )
    lowest = min(traffic.rate_at(traffic.duration_s * i / SAMPLES) for i in range(SAMPLES))
    least, most = replica_bounds(lowest, traffic, knee.rate, share, startup_s, reaction_s, jumps)
    if most > limits.max_replicas:
        notes.append(
            f"The traffic asks for up to {most} replicas; {limits.max_replicas} is what there is room for"
            " (--max-replicas says otherwise)."
        )
    most = min(most, limits.max_replicas)
    least = min(max(least, limits.min_replicas), most)
    first = min(most, max(least, math.ceil(traffic.rate_at(0) / (share * knee.rate) - 1e-9)))
    backlog = ", and what piles up during a jump worked off within a start-up time" if jumps else ""
    why_most = f"peak {traffic.peak:.3g} requests/s at {share:.0%} of the knee each{backlog}"
    return [
        Number(
            "autoscaling.min_replicas", least, f"lowest rate {lowest:.3g} requests/s at {share:.0%} of the knee each"
        ),
        Number("autoscaling.max_replicas", most, why_most),
        Number("autoscaling.initial_replicas", first, f"the traffic begins at {traffic.rate_at(0):.3g} requests/s"),
    ], notes


def _pace(
    knee: Knee, at_knee: Step, open_requests: float, running: int, share: float, startup_s: float
) -> list[Number]:
    """What a replica is meant to carry, and how soon their number follows."""
    source = f"knee {knee.rate:.3g} requests/s ({knee.low:.3g} to {knee.high:.3g})"
    tokens = float(f"{share * knee.rate * at_knee.output_tokens:.3g}")
    latency_s = at_knee.latency_s
    why_load = f"{open_requests:.2g} requests open at {share:.0%} of the {source}, of max_running {running}"
    why_tokens = f"{share:.0%} of the {source} x {at_knee.output_tokens:.3g} output tokens"
    why_up = f"mean time of a request at the knee, {latency_s:.2g} s, at most half the start-up time"
    why_down = f"start-up {startup_s:.3g} s, request {latency_s:.2g} s: an idle replica costs no more than a new one"
    return [
        Number("autoscaling.target_load", target_load(open_requests, running), why_load),
        Number("autoscaling.tokens_per_s", tokens, why_tokens),
        Number("autoscaling.startup_s", round(startup_s, 1), "measured, as many at once as the traffic's jumps start"),
        Number("autoscaling.upscale_delay_s", upscale_delay_s(latency_s, startup_s), why_up),
        Number("autoscaling.downscale_delay_s", downscale_delay_s(latency_s, startup_s), why_down),
    ]


def _ttft(slo: Slo) -> list[Number]:
    """What TTFT says that there are too few replicas."""
    if (term := _term(slo, "ttft")) is None:
        return []
    why = f"TTFT limit {term.limit_s:g} s at p{term.percentile:g}, as a mean of an exponential tail"
    return [Number("autoscaling.ttft_target_s", ttft_target_s(term), why)]


def upscale_delay_s(latency_s: float, startup_s: float) -> float:
    """max(0.5, min(W, S / 2)): requests in excess by chance are gone after the mean time of a request, demand that
    outlasts it is real; and no doubt is worth more than half a start-up time."""
    return round(max(0.5, min(latency_s, startup_s / 2)), 1)


def downscale_delay_s(latency_s: float, startup_s: float) -> float:
    """max(S, W, 1): a replica kept idle for S costs as much as starting one anew (the ski-rental rule: never more than
    twice what hindsight would have paid)."""
    return round(max(startup_s, latency_s, 1.0), 1)


def steady_utilisation(steps: Sequence[Step], slo: Slo, knee: float, within: float) -> float:
    """Share of the knee at which `within` of all requests keep every limit, where the SLO itself asks for less.

    rate(share within = max(p, within)) / knee rate, on the same straight lines as the knee; in 0.6..0.95, since the few
    requests of a step say little about the last percent.
    """
    stricter = Slo(tuple(Term(one.figure, one.limit_s, max(one.percentile, 100 * within)) for one in slo.terms))
    by_rate = {
        one.rate: [block for other in steps if other.rate == one.rate for block in other.blocks] for one in steps
    }
    rate, _ = crossing(by_rate, stricter)
    return min(MOST_UTILISATION, max(LEAST_UTILISATION, rate / knee))


def rise_factor(traffic: Traffic, reaction_s: float, capacity: float) -> float:
    """max over t of rate(t + R) / max(rate(t), c): by how much the load outgrows the replicas in place before new ones
    are ready; one replica is always in place, so loads below c count as c."""
    times = [traffic.duration_s * i / SAMPLES for i in range(SAMPLES)]
    ratios = (
        max(traffic.rate_at(min(t + reaction_s * part, traffic.duration_s)) for part in (0.5, 1.0))
        / max(traffic.rate_at(t), capacity)
        for t in times
    )
    return max(1.0, *ratios)


def utilisation(steady: float, rise: float) -> float:
    """min(steady, 1 / rise): while the load grows by `rise`, the replicas in place must not pass the knee. A rise
    beyond 1 / LEAST_UTILISATION is a jump, and buys no head-room."""
    return round(steady if rise > 1 / LEAST_UTILISATION else min(steady, 1 / rise), 3)


def concurrency_at(steps: Sequence[Step], rate: float) -> float:
    """N at a rate: straight lines between the measured means, through the origin."""
    groups: dict[float, list[float]] = {}
    for one in steps:
        groups.setdefault(one.rate, []).append(open_requests(one))
    points = [(0.0, 0.0), *sorted((at, sum(found) / len(found)) for at, found in groups.items())]
    for (low, below), (high, above) in pairwise(points):
        if rate <= high:
            return below + (above - below) * (rate - low) / (high - low)
    return points[-1][1] * rate / points[-1][0]


def open_requests(step: Step) -> float:
    """N = rate x mean time of a request (Little's law): steadier than what was counted open during a step that is not
    much longer than a request."""
    return step.rate * step.latency_s


def target_load(open_requests: float, max_running: int) -> float:
    """N(u c) / max_running, in 0.01..1: the policy counts requests, so the aimed-at rate is told as requests open."""
    return round(min(1.0, max(0.01, open_requests / max_running)), 3)


def max_queued(saturated_rate: float, ttft_limit_s: float, unqueued_ttft_s: float) -> int:
    """floor(rate at saturation x (T - unqueued TTFT)), at least 1: the last of so many waiting requests still gets its
    first token in time; one more would not, and is better off at another replica."""
    return max(1, math.floor(saturated_rate * max(0.0, ttft_limit_s - unqueued_ttft_s)))


def bounded_running(at_knee: Step, slo: Slo, max_running: int) -> tuple[int, str]:
    """N + 2 sqrt(N) at the knee where the SLO has a limit on TPOT, and never above what is configured; not used
    where the knee was not reached.

    Each further sequence lengthens the others' steps: an overloaded replica that runs all it is given breaks TPOT for
    everyone, one that lets them wait breaks TTFT for a few. Two standard deviations of a Poisson count leave the knee
    as it was.
    """
    if _term(slo, "tpot") is None:
        return max_running, ""
    at_once = open_requests(at_knee)
    wanted = math.ceil(at_once + 2 * math.sqrt(at_once))
    why = f"{at_once:.3g} open at the knee + 2 standard deviations: more would break TPOT for all"
    return min(max_running, max(1, wanted)), why


def replica_bounds(
    lowest: float, traffic: Traffic, capacity: float, share: float, startup_s: float, reaction_s: float, jumps: bool
) -> tuple[int, int]:
    """Fewest: ceil(lowest rate / (u c)), at least 1. Most: ceil(peak / (u c)); where the traffic jumps,
    ceil((peak + backlog / S) / c) if that is more: what piled up while replicas started (backlog = rise x R, with the
    steepest rise within R) is worked off within another start-up time."""
    least = max(1, math.ceil(lowest / (share * capacity) - 1e-9))
    most = math.ceil(traffic.peak / (share * capacity) - 1e-9)
    if jumps:
        backlog = traffic.steepest_rise(reaction_s) * reaction_s
        most = max(most, math.ceil((traffic.peak + backlog / max(startup_s, 1.0)) / capacity - 1e-9))
    return least, max(least, most)


def ordered_at_once(
    traffic: Traffic, spikes: Sequence[float], at_knee: Step, max_running: int, startup_s: float
) -> int:
    """The most replicas that a spike has the policy order at the same moment; 1 without spikes.

    ceil((a W + b) / max_running) - ceil(r W / max_running), for a rate that jumps from r to a; b = (a - n max_running /
    W) S finds no slot in the n replicas there are until the new ones are ready (`serve_app.autoscaling.demand`).
    """
    most = 1
    for at_s in spikes:
        busy = traffic.rate_at(at_s) * at_knee.latency_s
        before = max(1, math.ceil(traffic.rate_at(at_s - 1e-6) * at_knee.latency_s / max_running))
        excess = max(0.0, busy - before * max_running)
        needed = math.ceil((busy + excess / at_knee.latency_s * startup_s) / max_running)
        most = max(most, needed - before)
    return most


def ttft_target_s(term: Term) -> float:
    """T / ln(1 / (1 - p)): the mean of an exponential distribution whose p-th percentile is T."""
    part = min(term.percentile, 99.9) / 100
    return float(f"{term.limit_s / math.log(1 / (1 - part)):.3g}")


def nearest(steps: Sequence[Step], rate: float) -> Step:
    """The measurement whose rate is nearest, of the lower rates where there are any."""
    below = [one for one in steps if one.rate <= rate * 1.0001] or list(steps)
    return min(below, key=lambda one: abs(one.rate - rate))


def _term(slo: Slo, figure: str) -> Term | None:
    """The tightest term on a figure."""
    return min((one for one in slo.terms if one.figure == figure), key=lambda one: one.limit_s, default=None)
