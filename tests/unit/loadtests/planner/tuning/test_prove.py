"""The proof counts what it says it counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadtests.loadgen import traffic
from loadtests.planner.tuning import prove
from loadtests.planner.tuning.oracle import Oracle
from loadtests.results import replicas
from loadtests.results.record import Record
from loadtests.results.replicas import ReplicaCounts
from loadtests.results.slo import Slo
from tests.unit.loadtests.samples import samples

SLO = Slo.parse("ttft_p95=500ms")
SPIKE = traffic.parse("spike:base=1,peak=10,at=20,for=20,duration=60")


def record(at_s: float, ttft_s: float = 0.1, outcome: str = "ok") -> Record:
    return Record(at_s, at_s, ttft_s, ttft_s + 1, 10, 10, outcome)  # type: ignore[arg-type]


def outcome(records: list[Record], seen: list[ReplicaCounts], shape: traffic.Traffic = SPIKE) -> prove.ReplayOutcome:
    return prove.outcome(
        records,
        seen,
        Oracle(1.0, (1,) * 60),
        traffic=shape,
        slo=SLO,
        capacity=2.0,
        startup_s=5.0,
        reversal_window_s=10.0,
    )


def test_late_requests_are_excused_in_the_first_startup_time_after_a_spike_only() -> None:
    on_time = [record(t) for t in range(60)]
    in_time = outcome([*on_time, record(20.0, 3), record(24.9, 3)], [])
    assert (in_time.within, in_time.excused) == (1.0, 7)
    later = outcome([*on_time, record(25.0, 3)], [])
    assert later.within == pytest.approx(55 / 56)
    no_spike = outcome([*on_time, record(20.0, 3)], [], traffic.parse("steady:rate=1,duration=60"))
    assert no_spike.within == pytest.approx(60 / 61)


def test_refused_and_failed_requests_are_not_within_the_slo() -> None:
    found = outcome([record(1), record(2, outcome="refused"), record(3, outcome="failed"), record(4)], [])
    assert (found.within, found.refused, found.failed) == (0.5, 1, 1)
    failed = {one.name: one.passed for one in prove.checks(found, 5.0, prove.Criteria())}
    assert failed["failed requests"] is False


def test_a_replay_without_requests_proves_nothing() -> None:
    for records in ([], [record(20.0 + t) for t in range(5)]):
        lines = prove.checks(outcome(records, samples((0, 1, 1))), 5.0, prove.Criteria())
        assert lines[0].passed is False


def test_replica_seconds_count_from_the_order_to_the_end_within_the_traffic() -> None:
    seen = samples((-2, 1, 1), (20, 4, 1), (26, 4, 4), (40, 1, 3), (43, 1, 1), (70, 8, 1))
    assert replicas.replica_seconds(seen, 60.0) == 20 * 1 + 20 * 4 + 3 * 3 + 17 * 1
    found = outcome([record(1)], seen)
    assert found.over_oracle == pytest.approx(126 / 60)


def test_recovery_lasts_until_requests_stay_within_the_slo() -> None:
    late = [record(20 + t / 2, 3.0 if t < 16 or t == 20 else 0.1) for t in range(40)]
    assert prove.recovery_s(late, SLO, 20.0, 40.0, 0.99) == pytest.approx(10.5)
    assert prove.recovery_s([record(20 + t) for t in range(20)], SLO, 20.0, 40.0, 0.99) == 0.0
    assert prove.recovery_s([record(20 + t, 3) for t in range(20)], SLO, 20.0, 40.0, 0.99) == 20.0


def test_spikes_are_jumps_that_one_replica_does_not_carry() -> None:
    assert prove.spikes(SPIKE, 2.0) == [20.0]
    assert prove.spikes(SPIKE, 20.0) == []
    assert prove.spikes(traffic.parse("day:base=1,peak=20,duration=600"), 2.0) == []
    assert len(prove.spikes(traffic.parse("bursts:peak=9,on=5,off=10,duration=45"), 2.0)) == 3


def test_a_good_replay_passes_and_a_bad_one_says_where() -> None:
    good = outcome([record(t) for t in range(60)], samples((0, 1, 1)))
    assert all(one.passed is not False for one in prove.checks(good, 5.0, prove.Criteria()))
    bad = replace(good, within=0.98, replica_seconds=90.0, recovery_s=11.0, reversals=1, failed=1)
    assert [one.passed for one in prove.checks(bad, 5.0, prove.Criteria())][:5] == [False] * 5
