"""The formulas from measurements of one replica, and the shape of a traffic, to single numbers. Pure functions.

Symbols: c capacity of a replica (requests/s), u target utilisation, S start-up time of a replica (s), R reaction time
(s), W mean time of a request at the knee (s), N requests open at a replica, T the SLO's limit on TTFT (s).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from loadtests.loadgen.traffic import Traffic
from loadtests.planner.tuning.knee import crossing
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
    if tightest(slo, "tpot") is None:
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


def tightest(slo: Slo, figure: str) -> Term | None:
    """The tightest term on a figure."""
    return min((one for one in slo.terms if one.figure == figure), key=lambda one: one.limit_s, default=None)
