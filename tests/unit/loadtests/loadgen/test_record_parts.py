"""Parts of a file of records become one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from loadtests.loadgen import record_parts
from loadtests.results import record
from loadtests.results.record import Record

OK = Record(1.0, 1.0, 0.2, 1.2, prompt_tokens=100, output_tokens=51, outcome="ok", scenario="chat")
RECORDS = [
    OK,
    replace(OK, scheduled_s=2.0, ttft_s=0.7, scenario="vision"),
    replace(OK, outcome="refused", ttft_s=None, detail="429 overloaded"),
    replace(OK, outcome="failed", ttft_s=None, detail="timeout"),
    replace(OK, scheduled_s=3.0, sent_s=3.0),
]


def test_parts_become_one_file_in_order_of_schedule(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    for worker, some in (("a", RECORDS[:2]), ("b", RECORDS[2:])):
        record.write(record_parts.part(path, worker), some)
    record_parts.gather(path, keep_parts=True)
    record_parts.gather(path)
    assert [one.scheduled_s for one in record.read(path)] == [1.0, 1.0, 1.0, 2.0, 3.0]
    assert list(tmp_path.iterdir()) == [path]
    record_parts.gather(path)
    assert len(record.read(path)) == 5
    record_parts.clear(path)
    assert list(tmp_path.iterdir()) == []
