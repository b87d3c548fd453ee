"""What clients tell of a fault as figures, and what passes."""

from __future__ import annotations

from typing import Any

import pytest

from loadtests.faults.clients import Told
from loadtests.faults.findings import Span, finding, table
from loadtests.faults.injuries import Injury, NotPossible, chosen

SPAN = Span(began=100.0, ended=120.0, whole_after_s=3.0, left={})
START_S = 5.0


def injury(**changes: Any) -> Injury:
    return Injury("replica", lambda victim: None, **changes)


def stream(**changes: Any) -> Told:
    return Told(**{"streamed": True, "began": 99.0, "ended": 104.0, "outcome": "whole"} | changes)


def test_only_what_was_open_while_it_lasted_counts() -> None:
    told = [stream(), stream(began=90.0, ended=99.5), stream(began=121.0, ended=130.0), stream(streamed=False)]
    found = finding(injury(), told, SPAN, START_S)
    assert (found.streams, found.short, found.lost) == (1, 1, 0)
    assert found.passed


def test_the_gap_is_the_longest_wait_in_a_stream_since_the_fault() -> None:
    told = [stream(gaps=((99.5, 9.0), (101.0, 0.4), (102.0, 2.5)))] * 2
    assert finding(injury(), told, SPAN, START_S).p99_gap_s == 2.5


@pytest.mark.parametrize(
    ("changes", "reason", "whole_after_s", "passed"),
    [
        ({}, "the connection was closed", 3.0, False),
        ({"own_connection": True}, "the connection was closed", 3.0, True),
        ({"own_connection": True}, "silent for 90 s", 3.0, False),
        ({}, None, 15.0, True),
        ({}, None, 15.1, False),
        ({}, None, None, False),
        ({"survives": False}, "the connection was closed", None, True),
        ({"survives": False}, "silent for 90 s", None, False),
    ],
)
def test_what_passes(changes: dict[str, Any], reason: str | None, whole_after_s: float | None, passed: bool) -> None:
    lost = [stream(outcome="lost", reason=reason)] if reason else []
    span = Span(SPAN.began, SPAN.ended, whole_after_s, {})
    found = finding(injury(**changes), [stream(), *lost], span, START_S)
    assert found.passed is passed
    assert found.reasons == ({reason: 1} if reason else {})


def test_the_table_says_what_is_not_as_promised() -> None:
    bad = finding(injury(), [stream(outcome="lost", reason="gone")], Span(100, 120, None, {"raylet": -1}, "told"), 1)
    head, row = table([bad]).splitlines()
    assert head.startswith("FAULT") and row.startswith("! replica")
    assert "never" in row and "-1 raylet" in row and "1 gone; told" in row


def test_faults_are_chosen_by_name_and_done_in_their_order() -> None:
    assert [one.name for one in chosen(["haproxy", "replica"])] == ["replica", "haproxy"]
    assert chosen([])[-1].name == "gcs", "nothing can be done after it"
    with pytest.raises(NotPossible, match="there is no moon"):
        chosen(["moon"])
