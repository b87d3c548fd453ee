"""What a replay is judged to have come to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from loadtests.loadgen import traffic
from loadtests.planner.proof import verdict
from loadtests.planner.proof.probes import ProbeAnswer
from loadtests.planner.proof.verdict import Proof
from loadtests.results.record import Outcome, Record
from loadtests.results.slo import Slo
from tests.unit.loadtests.samples import samples

SPIKE = traffic.parse("spike:base=1,peak=5,at=10,for=30,duration=40")
SLO = Slo.parse("ttft_p99=500ms,tpot_p99=40ms")
ANSWERS = [ProbeAnswer("/ready", 100.0, 0.01, 200), ProbeAnswer("/ready", 101.0, 0.2, 503)]


def record(at: float, ttft: float = 0.1, outcome: Outcome = "ok", latency: float = 1.0, detail: str = "") -> Record:
    first = ttft if outcome == "ok" else None
    return Record(at, at, first, latency, 10, 100, outcome, detail)


def proof(
    records: Sequence[Record],
    answers: Sequence[ProbeAnswer] = ANSWERS,
    killed: float | None = None,
    overload: bool = False,
) -> Proof:
    """One replica, and a second that is ordered 2 s after the jump and serves 6 s later."""
    counts = samples((0, 1, 1), (12, 2, 1), (18, 2, 2))
    return verdict.proof(records, counts, answers, traffic=SPIKE, slo=SLO, killed_at_s=killed, overload=overload)


def passed(found: Proof) -> bool:
    return all(one.passed is not False for one in verdict.checks(found))


def failed(found: Proof) -> list[str]:
    return [one.name for one in verdict.checks(found) if one.passed is False]


def test_one_start_up_time_after_the_jump_is_excused() -> None:
    late = [record(at, ttft=3.0) for at in (10.5, 12.0, 17.9)]
    found = proof([*(record(at) for at in range(40)), *late])
    assert found.startups == (6.0,) and found.excused_s == 8.0 and found.ordered_s == 2.0
    assert found.within == 1.0 and found.within_all == pytest.approx(40 / 43)
    assert passed(found)
    assert failed(proof([*(record(at) for at in range(40)), record(18.1, ttft=3.0)])) == [
        "within the SLO, from 8.0 s after each jump"
    ]


def test_a_request_that_fails_fails_the_proof_and_is_told_by_kind() -> None:
    found = proof([*(record(at) for at in range(200)), record(20, outcome="failed", detail="timeout")])
    assert failed(found) == ["failed requests"] and found.errors == {"timeout": 1}


def test_refusals_must_come_at_once() -> None:
    soon = record(11, outcome="refused", latency=0.2, detail="429 overloaded")
    assert passed(proof([*(record(at) for at in range(40)), soon]))
    found = proof([*(record(at) for at in range(40)), record(11, outcome="refused", latency=1.5)])
    assert failed(found) == ["slowest refusal"]


@pytest.mark.parametrize("late", [ProbeAnswer("/ready", 102.0, 1.2, 200), ProbeAnswer("/ready", 102.0, 0.1, None)])
def test_pages_must_answer_at_once_whatever_they_say(late: ProbeAnswer) -> None:
    requests = [record(at) for at in range(40)]
    assert passed(proof(requests))
    assert failed(proof(requests, [*ANSWERS, late])) == ["slowest /ready"]


def test_what_fails_with_an_engine_that_was_killed_is_told_and_not_judged() -> None:
    requests = [*(record(at) for at in range(200)), record(25, outcome="failed", detail="cut off")]
    assert passed(proof(requests, killed=25.0))
    assert not passed(proof(requests))


def test_nothing_that_counts_proves_nothing() -> None:
    assert "within the SLO, from 8.0 s after each jump" in failed(proof([record(11)]))


def test_under_overload_what_is_refused_at_once_does_not_count_against_the_slo() -> None:
    refused = [record(30 + at / 100, outcome="refused", latency=0.1) for at in range(500)]
    requests = [*(record(at) for at in range(40)), *refused]
    assert passed(proof(requests, overload=True)) and not passed(proof(requests))
    assert not passed(proof([*requests, record(35, ttft=30.0)], overload=True)), "what is answered does"
    assert proof(requests, overload=True).refused == 500
