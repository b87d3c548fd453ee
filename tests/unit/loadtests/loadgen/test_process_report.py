"""Counts that processes add up, files of records that they make one, and options that are refused."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.arguments import BadSpec
from loadtests.loadgen import options, record_parts
from loadtests.loadgen.process_report import ProcessReport
from loadtests.results import record
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
        found.add(one, SLO)
    return found


@pytest.mark.parametrize("cut", range(6))
def test_what_workers_report_in_parts_adds_up_to_the_whole(cut: int) -> None:
    worker, master = report(RECORDS[:cut]), ProcessReport()
    worker.busiest["process 0"] = 0.5
    master.merge(ProcessReport.of(worker.take()))
    for one in RECORDS[cut:]:
        worker.add(one, SLO)
    worker.busiest["process 0"] = 0.3
    master.merge(ProcessReport.of(worker.take()))
    master.merge(ProcessReport.of(worker.take()))
    alone = report(RECORDS)
    assert (master.scenarios, master.ended_s) == (alone.scenarios, alone.ended_s)
    assert master.busiest == {"process 0": 0.5}


def test_a_tally_agrees_with_the_summary_of_the_records() -> None:
    total, summary = report(RECORDS).total(), Summary.of(RECORDS, SLO)
    assert (total.ok, total.refused, total.failed) == (summary.ok, summary.refused, summary.failed) == (3, 1, 1)
    assert (total.within_slo, total.output_tokens) == (summary.within_slo, summary.output_tokens)
    assert (dict(total.errors), total.share_within_slo) == (summary.errors, summary.share_within_slo)


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


def parsed(*words: str) -> argparse.Namespace:
    class Parser(argparse.ArgumentParser):
        """Takes what Locust's parser takes beside argparse's own."""

        def add_argument(
            self, *names: str, env_var: str = "", is_secret: bool = False, **kw: object
        ) -> argparse.Action:
            return super().add_argument(*names, **kw)

    parser = Parser(exit_on_error=False)
    options.add(parser)
    return parser.parse_args(words)


def test_options_are_read() -> None:
    found = options.Options.of(
        parsed("--traffic", "steady:rate=3", "--scenario", "chat:2,vision", "--image-sizes", "64")
    )
    assert found.traffic and found.traffic.peak == 3 and not found.shape
    assert found.scenarios == {"chat": 2, "vision": 1}
    assert found.settings.image_sizes == ((64, 64),)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--traffic", "stedy:rate=1"], "did you mean 'steady'"),
        (["--slo", "ttft"], "unit"),
        (["--extra-body", "[]"], "JSON object"),
        (["--extra-body", "{"], "no JSON"),
        (["--scenario", "chatt"], "did you mean 'chat'"),
        (["--scenario", "chat:1,chat:2"], "given twice"),
        (["--extra-body", '{"stream": false}'], "--no-stream"),
        (["--traffic", "steady:rate=0"], "nothing would ever come"),
        (["--traffic", "steady:rate=1,duration=0"], "longer than 0 s"),
        (["--traffic", "steady:rate=1,rate=2"], "given twice"),
        (["--traffic", "bursts:peak=1,on=1us,off=1,duration=9"], "must be a number"),
        (["--traffic", "bursts:peak=1,on=0.000001,off=0.000001,duration=900"], "times, of at most"),
        (["--lengths", "lognormal:prompt=256,output=128,most=200"], "above most=200"),
        (["--lengths", "lognormal:prompt=2,output=1,output_sigma=1000"], "from 0 to 5"),
        (["--image-sizes", "100000"], "pixels a side"),
    ],
)
def test_options_that_cannot_be_read_say_why(words: list[str], said: str) -> None:
    with pytest.raises(argparse.ArgumentError, match=said):
        parsed(*words)


def test_a_loop_is_open_or_closed() -> None:
    with pytest.raises(BadSpec, match="open loop"):
        options.Options.of(parsed("--traffic", "steady:rate=1", "--shape", "steady:rate=1"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prefix-groups", "0"], "--prefix-groups must be at least 1"),
        (["--prefix-tokens", "-1"], "--prefix-tokens must be at least 1"),
        (["--turns", "0"], "--turns must be at least 1"),
        (["--think", "-1"], "--think must be at least 0"),
        (["--timeout", "0"], "--timeout must be above 0"),
        (["--timeout", "nan"], "--timeout must be a number"),
        (["--characters-per-token", "0"], "--characters-per-token must be above 0"),
        (["--model", ""], "--model"),
        (["--traffic", "steady:rate=1", "--think", "1"], "--think"),
        (["--shape", "steady:rate=0.2"], "no user at any time"),
        (["--no-stream"], "no answer is streamed"),
        (["--scenario", "batch"], "no answer is streamed"),
    ],
)
def test_options_that_cannot_be_say_why(words: list[str], said: str) -> None:
    with pytest.raises(BadSpec, match=said):
        options.Options.of(parsed(*words))


@pytest.mark.parametrize(
    ("of_locust", "said"),
    [({"num_users": -1}, "--users"), ({"num_users": 0}, "--users"), ({"run_time": 0}, "--run-time")],
)
def test_options_of_locust_that_cannot_be_say_why(of_locust: dict[str, int], said: str) -> None:
    found = parsed()
    vars(found).update(of_locust)
    with pytest.raises(BadSpec, match=said):
        options.Options.of(found)


def test_whole_answers_have_an_slo_of_their_own() -> None:
    found = options.Options.of(parsed("--no-stream", "--slo", "e2e_p95=5s"))
    assert not found.settings.stream
    assert options.Options.of(parsed("--scenario", "batch,chat")).slo
