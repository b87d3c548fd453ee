"""The numbers of a model's entry in the configuration, from measurements of one replica and a traffic's shape.

Each number comes with the reason for it. Pure functions; the formulas are in `formulas`. A further key that can be
measured gets its formula there and its Number here; `write` puts it into the entry by its key.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loadtests.loadgen.traffic import Traffic
from loadtests.planner.tuning import formulas
from loadtests.planner.tuning.knee import Knee
from loadtests.planner.tuning.step import Step
from loadtests.results.slo import Slo


@dataclass(frozen=True)
class Constraints:
    """What measurements must not overrule."""

    max_running: int
    """Sequences that one replica runs at the same time at most, as configured."""
    max_replicas: int
    """The most replicas that the machine, or its user, allows."""
    min_replicas: int = 1
    """The fewest replicas that the user wants."""
    within: float = 0.99
    """Share of requests, 0 to 1, that the proof wants within the SLO."""


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
    """Share of the capacity that a replica is meant to carry, 0 to 1."""
    startup_s: float
    """From ordering a replica to its being ready."""
    reaction_s: float
    """From a change of load to the first new replica's being ready."""
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
    knee: Knee, steps: Sequence[Step], startup_s: float, slo: Slo, traffic: Traffic, constraints: Constraints
) -> Derived:
    """All numbers that measurements give; `steps` are those that the knee was found from."""
    at_knee = formulas.nearest(steps, knee.rate)
    reaction_s = startup_s + formulas.upscale_delay_s(at_knee.latency_s, startup_s) + formulas.OBSERVED_S
    rise = formulas.rise_factor(traffic, reaction_s, knee.rate)
    share = formulas.utilisation(formulas.steady_utilisation(steps, slo, knee.rate, constraints.within), rise)
    bounds, notes = _bounds(knee, share, startup_s, reaction_s, rise, traffic, constraints)
    if not knee.bounded:
        notes.append(f"The SLO still held at {knee.rate:.3g} requests/s, the highest rate tried: the knee is above it.")
    queues = _queues(knee, at_knee, steps, slo, constraints)
    running = next((int(one.value) for one in queues if one.key == "max_running"), constraints.max_running)
    pace = _pace(knee, at_knee, formulas.concurrency_at(steps, share * knee.rate), running, share, startup_s)
    numbers = (*queues, *bounds, *pace, *_ttft(slo))
    return Derived(knee.rate, share, startup_s, reaction_s, numbers, tuple(notes))


def _queues(knee: Knee, at_knee: Step, steps: Sequence[Step], slo: Slo, constraints: Constraints) -> list[Number]:
    """What a replica runs and lets wait."""
    numbers = []
    running, why = formulas.bounded_running(at_knee, slo, constraints.max_running)
    if knee.bounded and running < constraints.max_running:
        numbers.append(Number("max_running", running, why))
    if (ttft := formulas.tightest(slo, "ttft")) is not None:
        served = max(one.achieved_rate for one in steps)
        alone_s = min(steps, key=lambda one: one.rate).ttft_ms["p50"] / 1000
        rate = f"{served:.3g} requests/s {'at saturation' if knee.bounded else 'or more, saturation was not reached,'}"
        why = f"{rate} x (TTFT limit {ttft.limit_s:g} s - {alone_s:.2g} s unqueued)"
        numbers.append(Number("max_queued", formulas.max_queued(served, ttft.limit_s, alone_s), why))
    return numbers


def _bounds(
    knee: Knee,
    share: float,
    startup_s: float,
    reaction_s: float,
    rise: float,
    traffic: Traffic,
    constraints: Constraints,
) -> tuple[list[Number], list[str]]:
    """Fewest, most and first replicas, and what has to be said of them."""
    notes = []
    jumps = rise > 1 / formulas.LEAST_UTILISATION
    if jumps:
        notes.append(
            f"The traffic grows {rise:.1f}-fold within the {reaction_s:.1f} s that new replicas take: no head-room"
            " worth paying for holds that. Requests wait, or are refused, until the new replicas are there."
        )
    lowest = min(traffic.rate_at(traffic.duration_s * i / formulas.SAMPLES) for i in range(formulas.SAMPLES))
    least, most = formulas.replica_bounds(lowest, traffic, knee.rate, share, startup_s, reaction_s, jumps)
    if most > constraints.max_replicas:
        notes.append(
            f"The traffic asks for up to {most} replicas; {constraints.max_replicas} is what there is room for"
            " (--max-replicas says otherwise)."
        )
    most = min(most, constraints.max_replicas)
    least = min(max(least, constraints.min_replicas), most)
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
        Number("autoscaling.target_load", formulas.target_load(open_requests, running), why_load),
        Number("autoscaling.tokens_per_s", tokens, why_tokens),
        Number("autoscaling.startup_s", round(startup_s, 1), "measured, as many at once as the traffic's jumps start"),
        Number("autoscaling.upscale_delay_s", formulas.upscale_delay_s(latency_s, startup_s), why_up),
        Number("autoscaling.downscale_delay_s", formulas.downscale_delay_s(latency_s, startup_s), why_down),
    ]


def _ttft(slo: Slo) -> list[Number]:
    """What TTFT says that there are too few replicas."""
    if (term := formulas.tightest(slo, "ttft")) is None:
        return []
    why = f"TTFT limit {term.limit_s:g} s at p{term.percentile:g}, as a mean of an exponential tail"
    return [Number("autoscaling.ttft_target_s", formulas.ttft_target_s(term), why)]
