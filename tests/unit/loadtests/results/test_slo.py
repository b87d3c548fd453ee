"""The SLO of one request and of all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadtests.arguments import BadSpec
from loadtests.results.record import Record
from loadtests.results.slo import Slo

GOOD = Record(10.0, 10.0, 0.2, 1.2, prompt_tokens=100, output_tokens=51, outcome="ok", scenario="chat")
REFUSED = replace(GOOD, ttft_s=None, output_tokens=0, outcome="refused", detail="429 overloaded")
FAILED = replace(REFUSED, outcome="failed", detail="cut off")
SLO = Slo.parse("ttft_p95=500ms,tpot_p95=40ms")


def test_a_slo_reads_as_it_is_written() -> None:
    assert str(SLO) == "ttft_p95=500ms,tpot_p95=40ms"
    assert Slo.parse("e2e_p99.9=2s, ttft=1s") == Slo.parse("e2e_p99.9=2000ms,ttft_p100=1000ms")


@pytest.mark.parametrize(
    ("changed", "within"),
    [
        ({}, True),
        ({"ttft_s": 0.5, "latency_s": 1.0}, True),
        ({"ttft_s": 0.51}, False),
        ({"latency_s": 2.3}, False),
        ({"scheduled_s": 9.6}, False),
        ({"ttft_s": None}, True),
        ({"output_tokens": 1}, True),
        ({"outcome": "refused"}, False),
        ({"outcome": "failed"}, False),
    ],
)
def test_a_request_is_within_when_each_of_its_figures_is(changed: dict[str, object], within: bool) -> None:
    assert SLO.within(replace(GOOD, **changed)) is within


def test_with_several_percentiles_a_request_answers_for_the_loosest() -> None:
    slo = Slo.parse("ttft_p50=100ms,ttft_p99=1s")
    assert slo.within(replace(GOOD, ttft_s=0.9)) and not slo.within(replace(GOOD, ttft_s=1.1, latency_s=2))


@pytest.mark.parametrize(("bad", "holds"), [(5, True), (6, False)])
@pytest.mark.parametrize("miss", [replace(GOOD, ttft_s=0.6), REFUSED, FAILED])
def test_a_percentile_bears_as_many_misses_as_it_says(miss: Record, bad: int, holds: bool) -> None:
    assert SLO.holds([miss] * bad + [GOOD] * (100 - bad)) is holds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("tftt_p95=500ms", "did you mean 'ttft'"),
        ("ttft_p95=500", "unit"),
        ("ttft_p95", "unit"),
        ("ttft_p950=1s", "unknown figure"),
        ("ttft=fasts", "must be a number"),
        ("ttft_p101=1s", "at most 100"),
        ("ttft_p0=1s", "above 0"),
        ("ttft_p95=0s", "above 0"),
        ("ttft_p95=-1s", "above 0"),
        ("ttft_p95=1s,ttft_p95=2s", "given twice"),
    ],
)
def test_a_slo_that_cannot_be_read_says_why(text: str, said: str) -> None:
    with pytest.raises(BadSpec, match=said):
        Slo.parse(text)
