"""The tuning, phase by phase. Each phase does only what the state does not hold yet, and saves what it adds."""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from loadtests.bench.peers.configured import Source, configured
from loadtests.bench.peers.peer import Peer, Running
from loadtests.bench.peers.serve_default import NAME, serve_default
from loadtests.loadgen.traffic import Traffic
from loadtests.planner.tuning import derive, formulas, knee, measure, oracle, prove, write
from loadtests.planner.tuning.measure import RequestSpec, ServiceUnderTest
from loadtests.planner.tuning.progress import TerminalProgress
from loadtests.planner.tuning.state import State
from loadtests.planner.tuning.step import Step
from loadtests.results import record
from serve_app.launching.environment import free_ports
from serve_app.planning.resolve import gpu_share, replica_bounds

PACKINGS = (1, 2, 4, 8)
START_S = 30.0
"""What the start and stop of a service take, roughly; for the time left."""
FIRST_SHARE = 0.75
"""Of what a closed loop got through: the rate that the search begins with."""
STEPS = 8
"""Rates that a search measures, roughly; for the time left."""


@dataclass(frozen=True)
class Effort:
    """How long and how often to measure."""

    step_s: float = 15.0
    repeats: int = 3
    tolerance: float = 0.08
    most_rate: float = float("inf")


QUICK = Effort(step_s=8.0, repeats=2, tolerance=0.15)


@dataclass
class Tuner:
    """One model of one configuration, under one SLO and one traffic."""

    source: Source
    asked: RequestSpec
    traffic: Traffic
    traffic_spec: str
    effort: Effort
    gpus: int
    """On this machine."""
    most_replicas: int | None
    target: prove.Criteria
    contenders: Sequence[str]
    """What the tuned configuration is compared with: of `default` and `serve`."""
    state: State
    tuned_path: Path
    report_name: str

    def __post_init__(self) -> None:
        self.progress = TerminalProgress(self.expected_s())

    def expected_s(self) -> float:
        """Of what is left to do, roughly."""
        searches = len(self._packings()) or 1
        steps = 0.0 if self.state.knees else searches * (STEPS * (self.effort.step_s + 4) + START_S)
        replays = 1 + len(self.contenders) - len(self.state.replays)
        return steps + replays * (self.traffic.duration_s + START_S)

    def measure(self) -> None:
        """One replica: its start-up time and its knee; on a GPU, the knee of each packing."""
        packings = self._packings()
        for count in packings or (None,):
            if _key(count) not in self.state.knees:
                self._find_knee(count)
        self._start_together()
        if not packings and "packing" not in self.state.skipped:
            why = "the model runs on the CPU" if self.gpus else "there is no GPU here"
            if self.source.model.engine == "simulated":
                why = "the simulated engine takes no GPU"
            self.state.skipped["packing"] = f"The best packing was not searched: {why}."
            self.state.save()
            self.progress.say(self.state.skipped["packing"])

    def best_packing(self) -> int | None:
        """Replicas on a GPU that carry most within the SLO; None without a GPU."""
        found = {int(name): one.rate for name, one in self.state.knees.items() if name}
        return max(found, key=lambda count: found[count]) if found else None

    def derive(self) -> derive.Derived:
        """The numbers, from what was measured."""
        count = self.best_packing()
        each, steps = self._one_replica()
        limits = derive.Constraints(
            max_running=self.source.model.max_running,
            max_replicas=self._most(),
            within=self.target.within,
        )
        startup = self.state.together["startup_s"] if self.state.together else fmean(self.state.startup_s)
        found = derive.derive(each, steps, startup, self.asked.slo, self.traffic, limits)
        if count is not None:
            whole = self.state.knees[_key(count)]
            why = f"{whole.rate:.3g} requests/s on one GPU within the SLO, the most of {', '.join(self.state.knees)}"
            found = replace(found, numbers=(derive.Number("replicas_per_gpu", count, why), *found.numbers))
        self.state.derived = found
        self.state.save()
        for one in found.numbers:
            self.progress.say(f"{one.key}: {one.value:g}  ({one.why})")
        for note in found.notes:
            self.progress.say(f"note: {note}")
        return found

    def write(self) -> None:
        """The tuned configuration, checked as `serve_app check` does."""
        derived = self.state.derived
        assert derived is not None
        about = self.state.about
        heading = [
            f"Tuned by `python -m loadtests.tune` from {self.source.path.name} on {about['date']}, for"
            f" {self.source.model.id} under",
            f"{self.traffic_spec} and the SLO {self.asked.slo}.",
            f"How each number was measured, and what the result holds: {self.report_name}",
            "",
        ]
        place = write.Place(self.source.application, self.source.entry)
        self.tuned_path.write_text(write.tuned(self.source.path.read_text(), place, derived.numbers, heading))
        Source.find(self.tuned_path, self.source.model.id)
        self.progress.say(f"wrote {self.tuned_path}")

    def prove(self) -> None:
        """Replays the traffic with autoscaling on: tuned, and each contender."""
        derived = self.state.derived
        assert derived is not None
        tuned = Source.find(self.tuned_path, self.source.model.id)
        bounds = {"max_replicas": int(derived.value("autoscaling.max_replicas"))}
        untuned = self.source.entry_with({"autoscaling": bounds})
        deployment = re.sub(r"[^\w.-]+", "--", self.source.model.id)
        first = int(derived.value("autoscaling.initial_replicas"))
        self._replay("tuned", "Tuned", f"lfm2:{deployment}", self._ours("tuned", tuned.as_written, first))
        if "default" in self.contenders:
            self._replay("default", "Untuned defaults", f"lfm2:{deployment}", self._ours("default", untuned, 1))
        if "serve" in self.contenders:
            self._replay(
                "serve",
                "Ray Serve's default policy",
                f"peer:{NAME}",
                lambda port, folder: serve_default("serve", self.source, untuned, port, folder),
            )

    def _find_knee(self, count: int | None) -> None:
        if count is None:
            entry = self.source.entry_with({"replicas": 1})
        else:
            entry = self.source.entry_with({"replicas": count, "replicas_per_gpu": count})
        what = "one replica" if count is None else f"{count} to a GPU"
        name = "measured" if count is None else f"measured-{count}"
        done = [one for one in self.state.steps if one.replicas_per_gpu == count]
        with self._serving(
            lambda port, folder: configured(name, self.source, entry, port, folder, count or 1)
        ) as bench:
            if done:
                first, warmup_s = done[0].rate, min(one.latency_s for one in done)
            else:
                with self.progress.during(f"{what}: first load", self.effort.step_s):
                    carried, warmup_s = bench.probe(
                        self.source.model.max_running * (count or 1), self.effort.step_s / 2
                    )
                first = min(FIRST_SHARE * carried, self.effort.most_rate)
            search = knee.Search(first, self.effort.most_rate, self.effort.tolerance, self.effort.repeats)
            measured = recalling(done, count, self._measured(bench, count, what, warmup_s))
            self.state.knees[_key(count)] = knee.find(measured, self.asked.slo, search)
            startup = measure.startup_s(bench.running.log, bench.running.ready_s)
            self.state.startup_s.append(startup)
            self.progress.say(f"{what}: ready {startup:.1f} s after it was ordered")
        self.state.save()
        found_knee = self.state.knees[_key(count)]
        self.progress.say(
            f"knee of {what}: {found_knee.rate:.3g} requests/s ({found_knee.low:.3g} to {found_knee.high:.3g})"
        )

    def _start_together(self) -> None:
        """How long as many replicas take to start as a jump of the traffic orders at once: they get in each other's
        way."""
        if self.state.together:
            return
        count = self.best_packing()
        each, steps = self._one_replica()
        ordered = formulas.ordered_at_once(
            self.traffic,
            prove.spikes(self.traffic, each.rate),
            formulas.nearest(steps, each.rate),
            self.source.model.max_running,
            fmean(self.state.startup_s),
        )
        replicas = min(ordered, self._most() - 1)
        if replicas <= (count or 1):
            return
        packed = {} if count is None else {"replicas_per_gpu": count}
        entry = self.source.entry_with({"replicas": replicas, **packed})
        with self._serving(
            lambda port, folder: configured("together", self.source, entry, port, folder, replicas)
        ) as bench:
            startup = measure.startup_s(bench.running.log, bench.running.ready_s)
        self.state.together = {"replicas": replicas, "startup_s": startup}
        self.state.save()
        self.progress.say(f"{replicas} replicas at once: ready {startup:.1f} s after they were ordered")

    def _measured(self, bench: ServiceUnderTest, count: int | None, what: str, warmup_s: float) -> knee.Measure:
        """Measures a rate, keeps the measurement and says what it was."""

        def step(rate: float, repeat: int) -> Step:
            seconds = measure.step_seconds(rate, self.effort.step_s)
            with self.progress.during(f"{what}: {rate:.3g} requests/s", warmup_s + seconds + 4):
                found = bench.step(rate, seconds, warmup_s, repeat, count)
            self.state.steps.append(found)
            self.state.save()
            kept = knee.margin(found.blocks, self.asked.slo) >= 0
            self.progress.say(
                f"{what}: {rate:.3g} requests/s: TTFT p95 {found.ttft_ms['p95']:.0f} ms, TPOT p95"
                f" {found.tpot_ms['p95']:.1f} ms, {found.outcomes['ok']} of {found.requests} answered:"
                f" the SLO {'holds' if kept else 'does not hold'}"
            )
            return found

        return step

    def _replay(self, name: str, title: str, process: str, peer: Callable[[int, Path], Peer]) -> None:
        derived, state = self.state.derived, self.state
        assert derived is not None
        if name in state.replays:
            return
        out = state.path.with_name(f"{state.path.stem}.{name}.jsonl")
        with (
            self._serving(peer) as bench,
            self.progress.during(f"replay: {title}", self.traffic.duration_s + 5),
        ):
            records, samples = bench.replay(self.traffic_spec, out, f"ray::ServeReplica:{process}")
        record.write(out, records)
        best = oracle.least(
            sorted(one.scheduled_s for one in records),
            derived.capacity,
            derived.startup_s,
            self.traffic.duration_s,
            max_replicas=int(derived.value("autoscaling.max_replicas")),
        )
        found = prove.outcome(
            records,
            samples,
            best,
            traffic=self.traffic,
            slo=self.asked.slo,
            capacity=derived.capacity,
            startup_s=derived.startup_s,
            reversal_window_s=derived.value("autoscaling.downscale_delay_s"),
            within=self.target.within,
        )
        lines = prove.checks(found, derived.startup_s, self.target)
        state.replays[name] = {
            "title": title,
            "records": out.name,
            "samples": [one.to_dict() for one in samples],
            "oracle": {"step_s": best.step_s, "replicas": list(best.replicas)},
            "outcome": found.to_dict(),
            "checks": [asdict(one) for one in lines],
        }
        state.save()
        self.progress.say(
            f"{title}: {found.within:.2%} within the SLO, {found.over_oracle:.2f} x the oracle's replica-seconds,"
            f" {found.actions} scaling actions, {found.failed} failed, {found.refused} refused"
        )

    def _ours(self, name: str, entry: Mapping[str, Any], ready: int) -> Callable[[int, Path], Peer]:
        return lambda port, folder: configured(name, self.source, entry, port, folder, ready)

    @contextmanager
    def _serving(self, peer: Callable[[int, Path], Peer]) -> Iterator[ServiceUnderTest]:
        """A service on a free port with a folder of its own."""
        with tempfile.TemporaryDirectory(prefix="tune-") as name, ExitStack() as stack:
            folder = Path(name)
            starting = peer(free_ports(1)[0], folder)
            with self.progress.during(f"starting: {starting.name}", START_S):
                running = stack.enter_context(Running(starting, self.source.setup, folder))
            yield ServiceUnderTest(running, self.asked, folder)

    def _packings(self) -> tuple[int, ...]:
        model = self.source.model
        on_gpu = bool(self.gpus) and model.engine == "vllm" and 0 < gpu_share(model) <= 1
        return PACKINGS if on_gpu else ()

    def _one_replica(self) -> tuple[knee.Knee, list[Step]]:
        """The knee in the best packing and the steps it was found from, as one replica of it saw them on average."""
        count = self.best_packing()
        share = count or 1
        whole = self.state.knees[_key(count)]
        each = replace(whole, rate=whole.rate / share, low=whole.low / share, high=whole.high / share)
        return each, [_of_one(one, share) for one in self.state.steps if one.replicas_per_gpu == count]

    def _most(self) -> int:
        """Replicas that may be asked for in the best packing."""
        return self.most_replicas or self._room(self.best_packing() or 1)

    def _room(self, per_gpu: int) -> int:
        """Replicas of this model that the machine has room for: on its GPUs, or beside all else on its cores."""
        model = self.source.model
        if model.autoscaling is not None:
            return model.autoscaling.max_replicas
        if self._packings():
            return self.gpus * per_gpu
        others = sum(replica_bounds(one)[0] * one.cpus for one in self.source.service.models if one.id != model.id)
        ingress = self.source.service.ingress
        free = (os.cpu_count() or 1) - others - ingress.replicas * ingress.cpus
        return max(1, int(free / model.cpus + 1e-9)) if model.cpus else 8


def recalling(before: Sequence[Step], count: int | None, measure: knee.Measure) -> knee.Measure:
    """`measure`, but for what was measured before of a packing: a search asks for the same rates in the same order."""

    def step(rate: float, repeat: int) -> Step:
        known = [one for one in before if one.replicas_per_gpu == count and math.isclose(one.rate, rate, rel_tol=1e-6)]
        return known[repeat] if repeat < len(known) else measure(rate, repeat)

    return step


def _key(count: int | None) -> str:
    return "" if count is None else str(count)


def _of_one(step: Step, share: int) -> Step:
    """A step of several replicas together, as one of them saw it on average."""
    return replace(
        step,
        rate=step.rate / share,
        achieved_rate=step.achieved_rate / share,
        concurrency=step.concurrency / share,
        tokens_per_s=step.tokens_per_s / share,
    )
