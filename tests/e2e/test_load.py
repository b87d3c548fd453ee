"""A load test of the demo models, text and images."""

from __future__ import annotations

from pathlib import Path
from random import Random

from loadtests.loadgen import traffic
from loadtests.loadgen.locust_run import run
from tests.e2e.conftest import TEXT, VISION
from tests.support.service import Service


def test_users_chat_with_the_demo_model(service: Service, tmp_path: Path) -> None:
    records = run(service.url, TEXT, 4, "fixed:prompt=40,output=12", 4, out=tmp_path / "r", scenario="conversation")
    assert {(one.outcome, one.detail) for one in records} == {("ok", "")}
    assert {one.output_tokens for one in records} == {12}
    assert all(one.ttft_s and one.tpot_s and one.prompt_tokens > 10 for one in records)


def test_images_arrive_in_an_open_loop(service: Service, tmp_path: Path) -> None:
    spec, options = "steady:rate=2,duration=4", {"image-sizes": "64,96x64"}
    out = tmp_path / "records.jsonl"
    records = run(service.url, VISION, spec, "fixed:prompt=8,output=6", out=out, scenario="vision", options=options)
    assert len(records) == len(list(traffic.parse(spec).arrivals(Random(1))))
    assert {(one.outcome, one.detail, one.output_tokens) for one in records} == {("ok", "", 6)}
