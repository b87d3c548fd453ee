"""Files worked through against a real service with simulated engines."""

from __future__ import annotations

import asyncio
import collections
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.batch.run.client import HttpClient
from serve_app.batch.run.pace import ServiceLoad
from tests.support.service import Service


def request(id: str, model: str = "pair", tokens: int = 8, **changes: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": id}], "max_tokens": tokens}
    return {"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body} | changes


def write(path: Path, requests: list[dict[str, Any] | str]) -> Path:
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in requests))
    return path


def start(simulated: Service, input: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "serve_app.batch", str(input), "--out", str(input.with_name("out.jsonl"))]
    return subprocess.Popen(
        [*command, "--base-url", simulated.url, *more], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finished(process: subprocess.Popen[str], timeout_s: float = 90) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, out, err


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_every_line_is_answered_and_a_bad_one_costs_only_itself(simulated: Service, tmp_path: Path) -> None:
    routes = [
        request("adapted", model="tuned"),
        request("text", url="/v1/completions", body={"model": "pair", "prompt": "a", "max_tokens": 4}),
        request("response", url="/v1/responses", body={"model": "pair", "input": "a", "max_output_tokens": 4}),
        request("vector", url="/v1/embeddings", body={"model": "pair", "input": "a"}),
        request("unknown", model="nobody"),
        request("long", tokens=1_000_000),
        '{"custom_id": "torn", "body": {',
        "",
    ]
    input = write(tmp_path / "in.jsonl", [*(request(str(number)) for number in range(40)), *routes])
    status, out, err = finished(start(simulated, input, "--json", "--quiet"))
    assert status == 1, err
    answers = {one["custom_id"]: one["response"] for one in lines(tmp_path / "out.jsonl")}
    assert answers.keys() == {*map(str, range(40)), "adapted", "text", "response", "vector"}
    assert all(answer["status_code"] == 200 and answer["request_id"] for answer in answers.values())
    assert answers["7"]["body"]["usage"]["completion_tokens"] == 8
    errors = {one["error"]["line"]: one for one in lines(tmp_path / "out.errors.jsonl")}
    assert {line: one["error"]["code"] for line, one in errors.items()} == {
        45: "model_not_found",
        46: "400 context_length_exceeded",
        47: "invalid_json",
    }
    assert errors[46]["custom_id"] == "long" and errors[46]["response"]["status_code"] == 400
    summary = json.loads(out)
    assert (summary["total"], summary["succeeded"], summary["failed"]) == (47, 44, 3)
    assert summary["output_tokens"] == 41 * 8 + 4 + 4
    status, out, err = finished(start(Service("http://127.0.0.1:9"), input))
    assert (status, "3 by earlier runs" in out) == (1, True), "it is complete: no service is needed to say so"


def test_killed_at_random_moments_it_answers_each_line_once(simulated: Service, tmp_path: Path) -> None:
    input = write(tmp_path / "in.jsonl", [request(str(number), tokens=random.randint(1, 30)) for number in range(600)])
    kills = 0
    for _ in range(6):
        process = start(simulated, input, "--concurrency", "16")
        before = len(lines_of(tmp_path / "out.jsonl"))
        while process.poll() is None and len(lines_of(tmp_path / "out.jsonl")) < before + 20:
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.1))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        finished(process)
        if kills % 2:
            tear(tmp_path / "out.jsonl")
    assert kills >= 3
    assert finished(start(simulated, input))[0] == 0
    ids = collections.Counter(one["custom_id"] for one in lines(tmp_path / "out.jsonl"))
    assert ids == dict.fromkeys(map(str, range(600)), 1) and not lines(tmp_path / "out.errors.jsonl")


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines() if path.exists() else []


def tear(path: Path) -> None:
    """As if killed in the middle of a write."""
    data = path.read_bytes()
    last = data.rfind(b"\n", 0, -1) + 1
    path.write_bytes(data[: random.randint(last, len(data) - 1)])


def test_a_service_that_refuses_slows_it_and_loses_nothing(simulated: Service, tmp_path: Path) -> None:
    """`narrow` holds two requests, and the ingress four more: the rest are answered 429."""
    input = write(tmp_path / "in.jsonl", [request(str(number), "narrow", tokens=2) for number in range(60)])
    status, out, err = finished(start(simulated, input, "--json", "--quiet"))
    assert status == 0, err
    assert json.loads(out)["retries"] > 0 and len(lines(tmp_path / "out.jsonl")) == 60


def test_one_that_is_stopped_says_how_to_go_on(simulated: Service, tmp_path: Path) -> None:
    input = write(tmp_path / "in.jsonl", [request(str(number), "narrow") for number in range(200)])
    process = start(simulated, input)
    while not lines_of(tmp_path / "out.jsonl"):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    status, _, err = finished(process)
    assert status == 130 and "goes on from here" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("change", "reason"), [("twice", "must not come twice"), ("changed", "another input"), ("away", "/v1/models")]
)
def test_what_is_wrong_with_the_whole_is_said_before_anything_is_sent(
    simulated: Service, tmp_path: Path, change: str, reason: str
) -> None:
    input = write(tmp_path / "in.jsonl", [request("a"), request("b")])
    if change == "changed":
        assert finished(start(simulated, input))[0] == 0
        write(input, [request("a"), request("c")])
    if change == "twice":
        write(input, [request("a"), request("a")])
    before = lines_of(tmp_path / "out.jsonl")
    service = Service("http://127.0.0.1:9") if change == "away" else simulated
    status, _, err = finished(start(service, input))
    assert status == 2 and reason in err and "Traceback" not in err
    assert lines_of(tmp_path / "out.jsonl") == before


def test_the_service_tells_what_its_replicas_hold(simulated: Service) -> None:
    load = httpx.get(f"{simulated.url}/load", timeout=10).json()
    assert load["pair"].keys() == {"running", "waiting", "interactive", "interactive_begun"}

    async def seen(*models: str | None) -> list[ServiceLoad | None]:
        async with HttpClient(simulated.url) as client:
            return [await client.load(model) for model in models]

    one, unknown, everything = asyncio.run(seen("pair", "nobody", None))
    assert one and everything and unknown == everything
