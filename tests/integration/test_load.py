"""Load tests through the real Locust: alone, with workers, from the web UI; every request ends exactly once."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from loadtests.loadgen import traffic
from loadtests.loadgen.locust_run import LOCUSTFILE, LocustFailed, run
from loadtests.results import record
from loadtests.results.record import Record
from serve_app.launching.environment import free_ports
from tests.support.service import Service

LENGTHS = "fixed:prompt=30,output=10"


def locust(service: Service, model: str, *words: str) -> list[str]:
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", service.url, "--model", model]
    return [*command, "--lengths", LENGTHS, *words]


def assert_each_arrival_ended_once(records: list[Record], spec: str, seed: int = 1) -> None:
    due = list(traffic.parse(spec).arrivals(Random(seed)))
    assert [one.scheduled_s for one in records] == pytest.approx(due, abs=1e-6)
    assert all(one.late_s >= 0 for one in records)


def test_an_open_loop_reports_llm_figures_as_locust_statistics(simulated: Service, tmp_path: Path) -> None:
    spec, written = "steady:rate=15,duration=3", tmp_path / "records.jsonl"
    words = ["--headless", "--only-summary", "--traffic", spec, "--records", str(written), "--csv", str(tmp_path / "t")]
    done = subprocess.run(locust(simulated, "trio", *words), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    records = record.read(written)
    assert_each_arrival_ended_once(records, spec)
    assert {(one.outcome, one.output_tokens, one.scenario) for one in records} == {("ok", 10, "chat")}
    with (tmp_path / "t_stats.csv").open() as file:
        rows = {row["Type"]: int(row["Request Count"]) for row in csv.DictReader(file)}
    count = len(records)
    assert rows.items() >= {"E2E": count, "TTFT": count, "TPOT": count, "LATE": count, "": count}.items()
    assert rows["ITL"] > 0
    assert f"{count} requests in" in done.stdout and "output " in done.stdout and "goodput" in done.stdout


def test_a_full_service_refuses_and_each_arrival_still_ends_once(simulated: Service, tmp_path: Path) -> None:
    spec = "spike:base=2,peak=40,at=1,for=2,duration=4"
    lines: list[str] = []
    records = run(simulated.url, "narrow", spec, LENGTHS, out=tmp_path / "records.jsonl", progress=lines.append)
    assert_each_arrival_ended_once(records, spec)
    said = "\n".join(lines)
    assert "SLO missed: ttft_p95=1s: too many without an answer" in said
    assert f"{sum(one.outcome == 'refused' for one in records)} x 429 overloaded" in said
    assert {one.outcome for one in records} == {"ok", "refused"}
    assert {one.detail for one in records if one.outcome == "refused"} == {"429 overloaded"}


def test_worker_processes_share_the_arrivals_of_all_scenarios_and_models(simulated: Service, tmp_path: Path) -> None:
    spec = "ramp:from=5,to=30,duration=4"
    scenario = "chat,conversation:2,shared-prefix,vision,batch"
    lines: list[str] = []
    records = run(
        simulated.url,
        "trio:2,pair",
        spec,
        LENGTHS,
        out=tmp_path / "records.jsonl",
        workers=2,
        scenario=scenario,
        slo="e2e_p95=60s",
        options={"image-sizes": "64", "prefix-tokens": "64"},
        progress=lines.append,
    )
    assert_each_arrival_ended_once(records, spec)
    assert {one.outcome for one in records} == {"ok"}
    names = {one.scenario for one in records}
    assert names == {"chat", "conversation", "shared-prefix", "vision", "batch"}
    assert all((one.ttft_s is None) == (one.scenario == "batch") for one in records)
    assert f"  {len(records):,} requests in" in "\n".join(lines)
    assert "  SLO holds" in lines
    rows = {tuple(line.split()[:2]): line.split()[2] for line in lines if line.strip().startswith(("pair ", "trio "))}
    assert rows == {asked: str(count) for asked, count in Counter((one.model, one.scenario) for one in records).items()}
    assert list(tmp_path.iterdir()) == [tmp_path / "records.jsonl"]


def test_a_closed_loop_waits_for_its_answers(simulated: Service, tmp_path: Path) -> None:
    records = run(simulated.url, "trio", 3, LENGTHS, 3, out=tmp_path / "records.jsonl")
    assert {one.outcome for one in records} == {"ok"} and len(records) >= 3
    moments = sorted([(one.sent_s, 1) for one in records] + [(one.ended_s, -1) for one in records])
    open_now, most = 0, 0
    for _, change in moments:
        open_now += change
        most = max(most, open_now)
    assert most == 3


def test_users_follow_a_shape(simulated: Service, tmp_path: Path) -> None:
    options = {"shape": "steps:from=1,to=4,steps=2,duration=4"}
    records = run(simulated.url, "trio", 1, LENGTHS, 60, out=tmp_path / "records.jsonl", options=options)
    assert {one.outcome for one in records} == {"ok"}
    early, late = (sum(low <= one.sent_s < low + 1 for one in records) for low in (0.5, 2.8))
    assert late > early


def test_an_interrupted_run_keeps_what_had_ended(simulated: Service, tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        if "Shape test updating" in line:
            time.sleep(4)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(
            simulated.url,
            "trio",
            "steady:rate=10,duration=600",
            LENGTHS,
            out=tmp_path / "records.jsonl",
            workers=2,
            progress=interrupt,
        )
    assert len(record.read(tmp_path / "records.jsonl")) >= 5


def test_what_locust_refuses_is_told(simulated: Service, tmp_path: Path) -> None:
    with pytest.raises(LocustFailed, match="did you mean 'ttft'"):
        run(simulated.url, "trio", 1, LENGTHS, 1, out=tmp_path / "x.jsonl", slo="tftt_p95=1s")


@pytest.fixture
def web_ui(simulated: Service) -> Iterator[httpx.Client]:
    port = free_ports(1)[0]
    words = ["--web-host", "127.0.0.1", "--web-port", str(port)]
    process = subprocess.Popen(locust(simulated, "trio", *words), stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            yield client
    finally:
        process.terminate()
        process.wait(30)


def test_the_web_ui_takes_the_options_and_shows_llm_figures(web_ui: httpx.Client) -> None:
    page = until(lambda: web_ui.get("/").text)
    assert '"traffic"' in page and '"slo"' in page and '"extended_tabs"' in page
    form = {"user_count": "1", "spawn_rate": "1", "traffic": "steady:rate=20,duration=2", "scenario": "chat,batch"}
    assert web_ui.post("/swarm", data=form).json()["success"]

    def finished() -> dict[str, Any] | None:
        found: dict[str, Any] = web_ui.get("/stats/requests").json()
        return found if found["state"] == "stopped" else None

    found = until(finished)
    count = len(list(traffic.parse(form["traffic"]).arrivals(Random(1))))
    [table] = found["extended_stats"]
    rows = {row["name"]: row for row in table["data"]}
    assert set(rows) == {"chat", "batch", "all"} and rows["all"]["ok"] == count
    assert {row["method"] for row in found["stats"]} >= {"E2E", "TTFT", "TPOT", "ITL"}


def until(ask: Any, timeout_s: float = 30) -> Any:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if found := ask():
                return found
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.3)
