"""Counts that the processes of a test add up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadtests.loadgen.process_report import ProcessReport
from loadtests.results.record import Record
from loadtests.results.slo import Slo
from loadtests.results.summary import Summary

SLO = Slo.parse("ttft_p95=500ms")
OK = Record(1.0, 1.0, 0.2, 1.2, prompt_tokens=100, output_tokens=51, outcome="ok", scenario="chat")
RECORDS = [
    OK,
    replace(OK, scheduled_s=2.0, ttft_s=0.7, scenario="vision"),
    replace(OK, outcome="refused", ttft_s=None, detail="429 overloaded"),
    replace(OK, outcome="failed", ttft_s=None, detail="timeout"),
    replace(OK, scheduled_s=3.0, sent_s=3.0),
]


def report(records: list[Record]) -> ProcessReport:
    found = ProcessReport()
    for one in records:
        found.add(one, SLO, one.scenario)
    return found


@pytest.mark.parametrize("cut", range(6))
def test_what_workers_report_in_parts_adds_up_to_the_whole(cut: int) -> None:
    worker, master = report(RECORDS[:cut]), ProcessReport()
    worker.busiest["process 0"] = 0.5
    master.merge(ProcessReport.of(worker.take()))
    for one in RECORDS[cut:]:
        worker.add(one, SLO, one.scenario)
    worker.busiest["process 0"] = 0.3
    master.merge(ProcessReport.of(worker.take()))
    master.merge(ProcessReport.of(worker.take()))
    alone = report(RECORDS)
    assert (master.rows, master.ended_s) == (alone.rows, alone.ended_s)
    assert master.busiest == {"process 0": 0.5}


def test_a_tally_agrees_with_the_summary_of_the_records() -> None:
    total, summary = report(RECORDS).total(), Summary.of(RECORDS, SLO)
    assert (total.ok, total.refused, total.failed) == (summary.ok, summary.refused, summary.failed) == (3, 1, 1)
    assert (total.within_slo, total.output_tokens) == (summary.within_slo, summary.output_tokens)
    assert (dict(total.errors), total.share_within_slo) == (summary.errors, summary.share_within_slo)
