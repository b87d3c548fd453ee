"""What the requests of a test come to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadtests.results.record import Record
from loadtests.results.slo import Slo
from loadtests.results.summary import Summary

GOOD = Record(10.0, 10.0, 0.2, 1.2, prompt_tokens=100, output_tokens=51, outcome="ok", scenario="chat")
REFUSED = replace(GOOD, ttft_s=None, output_tokens=0, outcome="refused", detail="429 overloaded")
FAILED = replace(REFUSED, outcome="failed", detail="cut off")
SLO = Slo.parse("ttft_p95=500ms,tpot_p95=40ms")


def test_a_summary_adds_up() -> None:
    records = [replace(GOOD, scheduled_s=float(i), sent_s=float(i)) for i in range(10)]
    records += [replace(REFUSED, scheduled_s=2.0), replace(FAILED, scheduled_s=3.0), replace(FAILED, scheduled_s=4.0)]
    records.append(replace(GOOD, scheduled_s=9.0, sent_s=9.0, ttft_s=0.8, latency_s=1.8))
    summary = Summary.of(records, SLO)
    assert (summary.requests, summary.ok, summary.refused, summary.failed) == (14, 11, 1, 2)
    assert summary.errors == {"cut off": 2, "429 overloaded": 1}
    assert summary.seconds == pytest.approx(11.2)
    assert summary.tokens_per_s == pytest.approx(11 * 51 / 11.2)
    assert summary.goodput_per_s == pytest.approx(10 / 11.2)
    assert summary.share_within_slo == pytest.approx(10 / 14)
    assert not summary.slo_holds
    assert (summary.ttft_s[50], summary.ttft_s[99]) == (0.2, 0.8)


def test_a_summary_of_nothing_is_zeros() -> None:
    summary = Summary.of([], SLO)
    assert (summary.requests, summary.tokens_per_s, summary.goodput_per_s, summary.share_within_slo) == (0, 0, 0, 1)
    assert not summary.slo_holds
