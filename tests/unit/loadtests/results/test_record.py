"""Times of a request, and the file of records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.results import record
from loadtests.results.record import Record

GOOD = Record(10.0, 10.0, 0.2, 1.2, prompt_tokens=100, output_tokens=51, outcome="ok", scenario="chat")
REFUSED = replace(GOOD, ttft_s=None, output_tokens=0, outcome="refused", detail="429 overloaded")
FAILED = replace(REFUSED, outcome="failed", detail="cut off")


def test_a_request_counts_from_when_it_was_due() -> None:
    late = replace(GOOD, scheduled_s=9.0)
    assert (late.late_s, late.scheduled_ttft_s, late.scheduled_latency_s) == (1.0, 1.2, 2.2)
    assert late.tpot_s == pytest.approx(0.02)


def test_records_come_back_from_their_file(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "records.jsonl"
    record.write(file, [FAILED, replace(GOOD, scheduled_s=3.0)])
    with file.open("a") as more:
        more.write('{"scheduled_s": 4.0, "sent_')
    assert record.read(file) == [replace(GOOD, scheduled_s=3.0), FAILED]
