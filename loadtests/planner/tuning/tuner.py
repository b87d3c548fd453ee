"""The tuning, phase by phase: measure one replica, derive numbers, write the configuration, prove it.

Each phase does only what the job's state does not hold yet, and saves what it adds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean
from typing import Any

from loadtests.bench.peers.configured import ConfiguredModel, configured
from loadtests.bench.peers.peer import DidNotServe
from loadtests.bench.peers.serve_default import DEPLOYMENT, serve_default
from loadtests.loadgen.locust_run import LocustFailed
from loadtests.planner.tuning import packing, write
from loadtests.planner.tuning.derive import Constraints, Derived, Number, derive
from loadtests.planner.tuning.job import MakePeer, TuningJob
from loadtests.planner.tuning.knee import NeverHolds
from loadtests.planner.tuning.replay import replay
from loadtests.planner.tuning.search import find_knee, start_together

NOT_MEASURED = (DidNotServe, LocustFailed, NeverHolds)
"""How a measurement fails for reasons that are the measured service's."""


def tune(job: TuningJob) -> None:
    """All phases. Raises DidNotServe, LocustFailed or NeverHolds; the state keeps what was measured until then."""
    measure_replica(job)
    derive_numbers(job)
    write_configuration(job)
    prove_configuration(job)


def measure_replica(job: TuningJob) -> None:
    """One replica: its start-up time and its knee; on a GPU, the knee of each packing, up to one that cannot be had."""
    for count in job.packings or (None,):
        if packing.key(count) in job.state.knees or packing.is_past_best(job.state.knees):
            continue
        try:
            find_knee(job, count)
        except NOT_MEASURED as error:
            if not job.state.knees:
                raise
            _skip(job, f"packing-{count}", f"{count} replicas on a GPU could not be measured, nor more of them", error)
            break
        job.state.skipped.pop(f"packing-{count}", None)
    start_together(job)
    if not job.packings and "packing" not in job.state.skipped:
        why = "the model runs on the CPU" if job.gpus else "there is no GPU here"
        if job.source.model.engine == "simulated":
            why = "the simulated engine takes no GPU"
        job.state.skipped["packing"] = f"The best packing was not searched: {why}."
        job.state.save()
        job.progress.say(job.state.skipped["packing"])


def derive_numbers(job: TuningJob) -> Derived:
    """The numbers of the model's entry, from what was measured."""
    state = job.state
    count = packing.best(state.knees)
    each, steps = packing.one_replica(state.knees, state.steps)
    constraints = Constraints(
        max_running=job.source.model.max_running,
        max_replicas=job.limit,
        within=job.criteria.within,
    )
    startup = state.together["startup_s"] if state.together else fmean(state.startup_s)
    found = derive(each, steps, startup, job.requests.slo, job.traffic, constraints)
    if count is not None:
        whole = state.knees[packing.key(count)]
        why = f"{whole.rate:.3g} requests/s on one GPU within the SLO, the most of {', '.join(state.knees)}"
        found = replace(found, numbers=(Number("replicas_per_gpu", count, why), *found.numbers))
    state.derived = found
    state.save()
    for one in found.numbers:
        job.progress.say(f"{one.key}: {one.value:g}  ({one.why})")
    for note in found.notes:
        job.progress.say(f"note: {note}")
    return found


def write_configuration(job: TuningJob) -> None:
    """The tuned configuration, checked as `serve_app check` does."""
    source, derived = job.source, job.state.derived
    assert derived is not None
    heading = [
        f"Tuned by `serve-app tune` from {source.path.name} on {job.state.about['date']}, for {source.model.id} under",
        f"{job.traffic_spec} and the SLO {job.requests.slo}.",
        f"How each number was measured, and what the result holds: {job.report_name}",
        "",
    ]
    place = write.Place(source.application, source.entry)
    job.tuned_path.write_text(write.tuned(source.path.read_text(), place, derived.numbers, heading))
    ConfiguredModel.find(job.tuned_path, source.model.id)
    job.progress.say(f"wrote {job.tuned_path}")


def prove_configuration(job: TuningJob) -> None:
    """Replays the traffic with autoscaling on: the tuned configuration, and each contender within the same bounds."""
    derived = job.state.derived
    assert derived is not None
    tuned = ConfiguredModel.find(job.tuned_path, job.source.model.id)
    bounds = {"max_replicas": int(derived.value("autoscaling.max_replicas"))}
    untuned = job.source.entry_with({"autoscaling": bounds})
    deployment = re.sub(r"[^\w.-]+", "--", job.source.model.id)
    process = f"lfm2:{deployment}"
    first = int(derived.value("autoscaling.initial_replicas"))
    replay(job, "tuned", "Tuned", process, _ours(job, "tuned", tuned.as_written, first))
    if "default" in job.contenders:
        _beside(job, "default", "Untuned defaults", process, _ours(job, "default", untuned, 1))
    if "serve" in job.contenders:
        _beside(
            job,
            "serve",
            "Ray Serve's default policy",
            f"peer:{DEPLOYMENT}",
            lambda port, folder: serve_default("serve", job.source, untuned, port, folder),
        )


def _beside(job: TuningJob, name: str, title: str, process: str, make: MakePeer) -> None:
    """Replay a contender; one that fails takes nothing from the proof of the tuned configuration."""
    try:
        replay(job, name, title, process, make)
    except NOT_MEASURED as error:
        _skip(job, f"replay-{name}", f"{title}: the traffic could not be replayed", error)
        return
    job.state.skipped.pop(f"replay-{name}", None)


def _skip(job: TuningJob, what: str, why: str, error: Exception) -> None:
    """Keep what was not measured, and why, for the report."""
    job.state.skipped[what] = f"{why}: {str(error).strip()[-400:]}"
    job.state.save()
    job.progress.say(job.state.skipped[what])


def _ours(job: TuningJob, name: str, entry: Mapping[str, Any], ready: int) -> MakePeer:
    """This service with an entry of the model, there when so many replicas are ready."""
    return lambda port, folder: configured(name, job.source, entry, port, folder, ready, *job.up_options)
