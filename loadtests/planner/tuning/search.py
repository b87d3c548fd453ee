"""The measuring phase in detail: the knee of one packing, and the start-up time of one replica and of many at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from loadtests.bench.peers.configured import configured
from loadtests.planner.tuning import formulas, knee, measure, packing, prove
from loadtests.planner.tuning.job import OVERHEAD_S, TuningJob
from loadtests.planner.tuning.measure import ServiceUnderTest
from loadtests.planner.tuning.step import Step

FIRST_SHARE = 0.75
"""Of what a closed loop got through: the rate that the search begins with."""


def find_knee(job: TuningJob, count: int | None) -> None:
    """Measure the knee of `count` replicas on one GPU, or of one replica where it is None; keep it in the job's state
    with each measurement and the start-up time."""
    state, effort, replicas = job.state, job.effort, count or 1
    packed = {} if count is None else {"replicas_per_gpu": count}
    entry = job.source.entry_with({"replicas": replicas, **packed})
    what = "one replica" if count is None else f"{count} to a GPU"
    name = "measured" if count is None else f"measured-{count}"
    done = [one for one in state.steps if one.replicas_per_gpu == count]
    options = job.up_options
    with job.serving(
        lambda port, folder: configured(name, job.source, entry, port, folder, replicas, *options)
    ) as service:
        if done:
            first, warmup_s = done[0].rate, min(one.latency_s for one in done)
        else:
            with job.progress.during(f"{what}: first load", effort.step_s):
                carried, warmup_s = service.probe(job.source.model.max_running * replicas, effort.step_s / 2)
            # More replicas on the GPU carry at least what fewer did, or do not pay.
            first = max([FIRST_SHARE * carried, *(one.rate for one in state.knees.values())])
        search = knee.Search(min(first, effort.most_rate), effort.most_rate, effort.tolerance, effort.repeats)
        measured = recalling(done, count, _measuring(job, service, count, what, warmup_s))
        found = state.knees[packing.key(count)] = knee.find(measured, job.requests.slo, search)
        startup = service.startup_s(replicas)
        state.startup_s.append(startup)
        job.progress.say(f"{what}: ready {startup:.1f} s after it was ordered")
    state.save()
    job.progress.say(f"knee of {what}: {found.rate:.3g} requests/s ({found.low:.3g} to {found.high:.3g})")


def start_together(job: TuningJob) -> None:
    """Measure how long as many replicas take to start as a jump of the traffic orders at once: they get in each other's
    way. Nothing is measured where no jump orders more than one."""
    state, model = job.state, job.source.model
    if state.together:
        return
    count = packing.best(state.knees)
    each, steps = packing.one_replica(state.knees, state.steps)
    ordered = formulas.ordered_at_once(
        job.traffic,
        prove.spikes(job.traffic, each.rate),
        formulas.nearest(steps, each.rate),
        model.max_running,
        fmean(state.startup_s),
    )
    replicas = min(ordered, job.limit - 1)
    if replicas <= (count or 1):
        return
    packed = {} if count is None else {"replicas_per_gpu": count}
    entry = job.source.entry_with({"replicas": replicas, **packed})
    options = job.up_options
    with job.serving(
        lambda port, folder: configured("together", job.source, entry, port, folder, replicas, *options)
    ) as service:
        startup = service.startup_s(replicas)
    state.together = {"replicas": replicas, "startup_s": startup}
    state.save()
    job.progress.say(f"{replicas} replicas at once: ready {startup:.1f} s after they were ordered")


def recalling(before: Sequence[Step], count: int | None, measure: knee.Measure) -> knee.Measure:
    """`measure`, but for what was measured before of a packing: a search asks for the same rates in the same order."""

    def step(rate: float, repeat: int) -> Step:
        known = [one for one in before if one.replicas_per_gpu == count and math.isclose(one.rate, rate, rel_tol=1e-6)]
        return known[repeat] if repeat < len(known) else measure(rate, repeat)

    return step


def _measuring(
    job: TuningJob, service: ServiceUnderTest, count: int | None, what: str, warmup_s: float
) -> knee.Measure:
    """Measures a rate, keeps the measurement and says what it was."""

    def step(rate: float, repeat: int) -> Step:
        seconds = measure.step_seconds(rate, job.effort.step_s)
        with job.progress.during(f"{what}: {rate:.3g} requests/s", warmup_s + seconds + OVERHEAD_S):
            found = service.step(rate, seconds, warmup_s, repeat, count)
        job.state.steps.append(found)
        job.state.save()
        kept = knee.margin(found.blocks, job.requests.slo) >= 0
        job.progress.say(
            f"{what}: {rate:.3g} requests/s: TTFT p95 {found.ttft_ms['p95']:.0f} ms, TPOT p95"
            f" {found.tpot_ms['p95']:.1f} ms, {found.outcomes['ok']} of {found.requests} answered:"
            f" the SLO {'holds' if kept else 'does not hold'}"
        )
        return found

    return step
