"""The proving phase in detail: one contender under the whole traffic, judged and kept."""

from __future__ import annotations

from dataclasses import asdict

from loadtests.planner.tuning import oracle, prove
from loadtests.planner.tuning.job import OVERHEAD_S, MakePeer, TuningJob
from loadtests.results import record


def replay(job: TuningJob, name: str, title: str, process: str, make: MakePeer) -> None:
    """Put the traffic on the service that `make` describes, and keep under `name` what came of it; nothing where that
    is known already.

    The records lie in a file beside the state. `process` begins the titles of the replicas' processes, as Ray names
    them after `ray::ServeReplica:`.
    """
    derived, state = job.state.derived, job.state
    assert derived is not None
    if name in state.replays:
        return
    out = state.path.with_name(f"{state.path.stem}.{name}.jsonl")
    with (
        job.serving(make) as service,
        job.progress.during(f"replay: {title}", job.traffic.duration_s + OVERHEAD_S),
    ):
        records, samples, _ = service.replay(job.traffic_spec, out, f"ray::ServeReplica:{process}")
    record.write(out, records)
    best = oracle.least(
        sorted(one.scheduled_s for one in records),
        derived.capacity,
        derived.startup_s,
        job.traffic.duration_s,
        max_replicas=int(derived.value("autoscaling.max_replicas")),
    )
    found = prove.outcome(
        records,
        samples,
        best,
        traffic=job.traffic,
        slo=job.requests.slo,
        capacity=derived.capacity,
        startup_s=derived.startup_s,
        reversal_window_s=derived.value("autoscaling.downscale_delay_s"),
        within=job.criteria.within,
        standby_cost=scaling.standby_cost if (scaling := job.source.model.autoscaling) else 1.0,
    )
    state.replays[name] = {
        "title": title,
        "records": out.name,
        "samples": [one.to_dict() for one in samples],
        "oracle": {"step_s": best.step_s, "replicas": list(best.replicas)},
        "outcome": found.to_dict(),
        "checks": [asdict(one) for one in prove.checks(found, derived.startup_s, job.criteria)],
    }
    state.save()
    job.progress.say(
        f"{title}: {found.within:.2%} within the SLO, {found.over_oracle:.2f} x the oracle's replica-seconds,"
        f" {found.actions} scaling actions, {found.failed} failed, {found.refused} refused"
    )
