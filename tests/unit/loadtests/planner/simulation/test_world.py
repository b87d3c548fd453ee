"""Laws a simulated service keeps, whoever scales it."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from loadtests.planner.simulation.fleet import Fleet
from loadtests.planner.simulation.replica import SimulatedReplica
from loadtests.planner.simulation.scalers import SCALERS, Scaler
from loadtests.planner.simulation.world import SimulationRun, arrivals_rng, simulate
from loadtests.results import replicas
from loadtests.results.record import Record
from tests.unit.loadtests.planner.simulation.scenarios import run, scaler, scenario


def in_flight(records: list[Record]) -> list[int]:
    """Requests open after each moment at which one begins or ends."""
    changes: Counter[float] = Counter()
    for one in records:
        changes[one.sent_s] += 1
        changes[one.ended_s] -= 1
    open, counts = 0, []
    for at in sorted(changes):
        open += changes[at]
        counts.append(open)
    return counts


@pytest.mark.parametrize("policy", SCALERS)
@pytest.mark.parametrize("ingresses", [1, 3])
def test_every_request_ends_exactly_once(policy: str, ingresses: int) -> None:
    of = scenario(ingress={"replicas": ingresses, "max_waiting": 20, "wait_timeout_s": 4})
    found = run(of, policy)
    due = list(of.traffic.arrivals(arrivals_rng(of.seed)))
    assert sorted(one.scheduled_s for one in found.records) == due
    assert min(in_flight(found.records)) == 0 and in_flight(found.records)[-1] == 0
    assert all(one.detail for one in found.records if one.outcome != "ok")
    assert found.until_s == of.traffic.duration_s


@pytest.mark.parametrize("policy", SCALERS)
def test_an_answer_takes_its_time(policy: str) -> None:
    for one in run(scenario(), policy).records:
        if one.outcome == "ok":
            assert one.ttft_s is not None and one.ttft_s > one.prompt_tokens / 5000
            assert one.latency_s >= one.ttft_s + 0.02 * (one.output_tokens - 1) - 1e-9


def lives(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, tuple[float, float]], list[tuple[str, float]]]:
    """When each replica was ordered and when it was gone; and when each was given a request, or had one end."""
    ordered: dict[str, tuple[float, float]] = {}
    worked: list[tuple[str, float]] = []
    order, gone, answer = Fleet._order, Fleet._gone, SimulatedReplica.answer
    clock = []

    async def watched(self: SimulatedReplica, *tokens: int) -> object:
        clock[:] = [self._loop]
        worked.append((self.id, self._loop.time()))
        try:
            return await answer(self, *tokens)
        finally:
            worked.append((self.id, self._loop.time()))

    def now() -> float:
        return clock[0].time() if clock else 0.0

    def ordering(self: Fleet, startup_s: float) -> bool:
        before = set(self._members)
        done = order(self, startup_s)
        ordered.update({id: (now(), float("inf")) for id in set(self._members) - before})
        return done

    def going(self: Fleet, member: object) -> None:
        gone(self, member)  # type: ignore[arg-type]
        ordered[member.id] = ordered[member.id][0], now()  # type: ignore[attr-defined]

    monkeypatch.setattr(Fleet, "_order", ordering)
    monkeypatch.setattr(Fleet, "_gone", going)
    monkeypatch.setattr(SimulatedReplica, "answer", watched)
    return ordered, worked


@pytest.mark.parametrize("policy", ["ours", "serve:upscale_delay=5,downscale_delay=10", "oracle"])
def test_replica_seconds_are_the_lives_of_replicas(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ordered, worked = lives(monkeypatch)
    of = scenario()
    found = run(of, policy)
    until = of.traffic.duration_s
    lived = sum(max(0.0, min(until, end) - begin) for begin, end in ordered.values())
    samples = replicas.replica_seconds(found.samples, until)
    assert samples == pytest.approx(lived, abs=0.5 * 2 * len(ordered))
    assert len(ordered) > 3
    assert all(ordered[id][0] <= at <= ordered[id][1] for id, at in worked)


def test_a_replica_that_leaves_finishes_what_it_has() -> None:
    of = scenario("steps:from=4,to=0.1,steps=2,duration=120", "fixed:prompt=64,output=400")
    found = run(of)
    assert max(one.occupied for one in found.samples) > found.samples[-1].occupied
    assert Counter(one.outcome for one in found.records)["failed"] == 0


def test_what_outlives_the_drain_fails_and_says_so() -> None:
    of = scenario("steady:rate=2,duration=60", "fixed:prompt=64,output=600", drain_timeout_s=0.5)
    found = simulate(of, Scaler(lambda seen: 4 if seen.at_s < 30 else 1, 4))
    failed = [one for one in found.records if one.outcome == "failed"]
    assert failed and {one.detail for one in failed} == {"cut off by the end of the drain"}


def test_the_same_seed_is_the_same_run() -> None:
    def bare(found: SimulationRun) -> tuple[object, ...]:
        return found.records, found.samples, found.gpus

    of = scenario(ingress={"replicas": 2})
    assert bare(run(of)) == bare(run(of))
    assert bare(run(of)) != bare(run(replace(of, seed=1)))


@pytest.fixture
def ctrl_c_interrupts() -> Iterator[None]:
    """Also where these tests run in the background, and have inherited that Ctrl-C is not for them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_keeps_what_was_done(ctrl_c_interrupts: None) -> None:
    def interrupt(share: float) -> None:
        if share > 0.5:
            signal.raise_signal(signal.SIGINT)

    of = scenario()
    found = simulate(of, scaler(of), interrupt)
    whole = run(of)
    assert of.traffic.duration_s * 0.5 < found.until_s < of.traffic.duration_s * 0.6
    assert found.records == whole.records[: len(found.records)] and len(found.records) > 100


def test_a_gpu_is_filled_before_the_next_and_none_is_made_up() -> None:
    of = scenario(per_gpu=3, gpus=2)
    found = run(of, "fixed:8")
    assert max(one.occupied for one in found.samples) == 6 and max(found.gpus) == 2
    found = run(of)
    assert all(gpus >= -(-one.occupied // 3) for gpus, one in zip(found.gpus, found.samples, strict=True))


def test_too_many_requests_are_refused_and_too_long_ones_fail() -> None:
    of = scenario("steady:rate=30,duration=30", ingress={"max_waiting": 5, "wait_timeout_s": 2})
    outcomes = Counter((one.outcome, one.detail) for one in run(of, "fixed:1").records)
    assert outcomes["refused", "429 overloaded"] > 100
    of = scenario("steady:rate=1,duration=30", "fixed:prompt=40000,output=10")
    assert {one.detail for one in run(of).records} == {"400 context_length_exceeded"}


def test_ingresses_that_do_not_know_of_each_other_overfill_a_replica_and_try_again() -> None:
    load, tokens = "steady:rate=40,duration=30", "fixed:prompt=64,output=64"
    of = scenario(load, tokens, ingress={"replicas": 4, "max_waiting": 50}, max_queued=0)
    found = run(of, "fixed:2")
    assert {"ok", "refused"} == {one.outcome for one in found.records}


def test_scaling_to_zero_holds_the_first_request_until_a_replica_is_there() -> None:
    from serve_app.config.schema import Autoscaling

    bounds = Autoscaling(min_replicas=0, max_replicas=2, upscale_delay_s=0, downscale_delay_s=5)
    found = run(scenario("steady:rate=0.05,duration=300", autoscaling=bounds))
    assert {one.occupied for one in found.samples} >= {0, 1}
    assert all(one.outcome == "ok" for one in found.records)
    assert max(one.ttft_s or 0 for one in found.records) > 5


def test_the_oracle_needs_the_fewest_replicas_and_ours_fewer_than_all() -> None:
    of = scenario()
    spent = {
        policy: replicas.replica_seconds(run(of, policy).samples, of.traffic.duration_s)
        for policy in ("oracle", "ours", "fixed")
    }
    assert spent["oracle"] < spent["ours"] < spent["fixed"]
