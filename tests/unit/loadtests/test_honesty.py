"""A load test that cannot be ends with its reason before it sends anything; one that showed nothing does not pass."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from loadtests import compare, interference, offline, simulate, tune
from loadtests.arguments import BadSpec
from loadtests.loadgen import preflight
from loadtests.loadgen.locust_run import LOCUSTFILE, LocustFailed, run

CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":%b}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":2}}\n\n'
ANSWERS = {
    "whole": CHUNK % (b"a", b"null") + CHUNK % (b"b", b'"stop"') + USAGE + b"data: [DONE]\n\n",
    "without text": CHUNK % (b"", b'"stop"') + USAGE + b"data: [DONE]\n\n",
}
TRAFFIC = ["--traffic", "steady:rate=8,duration=1"]
LENGTHS = "fixed:prompt=8,output=2"


class Fake(ThreadingHTTPServer):
    """Has the models `whole` and `without text`, each of which always answers the same; None refuses everything."""

    def __init__(self, models: bytes | None = None, status: int = 200) -> None:
        self.models = models or json.dumps({"data": [{"id": name} for name in ANSWERS]}).encode()
        self.status = status
        self.asked = 0
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Fake

    def do_GET(self) -> None:
        self._answer(self.server.models, self.server.status)

    def do_POST(self) -> None:
        self.server.asked += 1
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(ANSWERS[body["model"]])

    def _answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def fake() -> Iterator[Callable[..., Fake]]:
    running: list[Fake] = []

    def start(*args: object) -> Fake:
        running.append(Fake(*args))  # type: ignore[arg-type]
        threading.Thread(target=running[-1].serve_forever, daemon=True).start()
        return running[-1]

    yield start
    for one in running:
        one.shutdown()
        one.server_close()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--model", "whole", *TRAFFIC, "--slo", "ttft_p95=30s"], 0, "SLO holds"),
        (["--model", "without text", *TRAFFIC], 1, "x empty"),
        (["--model", "whole", "--traffic", "steady:rate=0.01,duration=0.5"], 3, "nothing was sent"),
        (["--model", "whole", *TRAFFIC, "--shape", TRAFFIC[1], "--processes", "2"], 2, "give one of them"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else None,
)
def test_the_exit_status_of_locust_says_whether_anything_was_shown(
    fake: Callable[..., Fake], words: list[str], status: int, said: str
) -> None:
    service = fake()
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"]
    command += ["--host", service.url, "--lengths", LENGTHS, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert (done.returncode, said in done.stdout + done.stderr) == (status, True), done.stdout + done.stderr
    assert (service.asked > 0) == (status < 2)


def test_a_run_from_python_that_cannot_be_says_why(fake: Callable[..., Fake], tmp_path: Path) -> None:
    service = fake()
    with pytest.raises(LocustFailed, match="no such model"):
        run(service.url, "none", TRAFFIC[1], LENGTHS, out=tmp_path / "records.jsonl")
    assert not service.asked


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        ((b'{"data": [{"id": "other"}]}',), "no such model"),
        ((b"{}", 401), "API key"),
        ((b'{"data": [{"id": "m"}]}',), None),
        ((b'{"data": []}',), None),
        ((b"<html></html>",), None),
        ((b"[" * 100_000,), None),
        ((b"nothing here", 404), None),
    ],
)
def test_what_a_service_tells_of_itself_is_believed(
    fake: Callable[..., Fake], answer: tuple[object, ...], refused: str | None
) -> None:
    url = fake(*answer).url
    if refused is None:
        preflight.check(f"{url}/v1/", ["m"])
        return
    with pytest.raises(BadSpec, match=refused):
        preflight.check(url, ["m"])


@pytest.mark.parametrize("url", [None, "", "127.0.0.1:8000", "ftp://x", "http://127.0.0.1:1"])
def test_a_service_that_is_not_there_ends_the_test(url: str | None) -> None:
    with pytest.raises(BadSpec, match=r"--host is|no service"):
        preflight.check(url, ["m"])


SIMULATE = ["--traffic", "steady:rate=2,duration=5", "--timing", "step_base_ms=10"]
TUNE = ["x.yaml", "--model", "m", "--traffic", "steady:rate=2,duration=5"]


@pytest.mark.parametrize(
    ("main", "words", "said"),
    [
        (compare.main, ["path", "--rounds", "0"], "at least 1"),
        (compare.main, ["path", "--extend"], "--json"),
        (compare.main, ["path", "--source", "x"], "model of its own"),
        (offline.main, ["simulated", "--prompts", "0"], "at least 1"),
        (offline.main, ["simulated", "--replicas", "1,0"], "at least 1"),
        (offline.main, ["simulated", "--rounds", "-1"], "at least 1"),
        (interference.main, ["simulated", "--requests", "0"], "at least 2"),
        (tune.main, [*TUNE, "--within", "99"], "at most 1"),
        (tune.main, [*TUNE, "--step-seconds", "0"], "above 0"),
        (tune.main, [*TUNE, "--max-rate", "-1"], "above 0"),
        (tune.main, [*TUNE, "--max-replicas", "0"], "at least 1"),
        (tune.main, TUNE, "x.yaml"),
        (tune.main, ["configs/demo.yaml", *TUNE[1:], "--model", "lfm2-demo", "--scenario", "batch"], "no answer is"),
        (tune.main, ["configs/demo.yaml", *TUNE[1:], "--model", "lfm2-demo", "--ask", "capitals:0"], "above 0"),
        (tune.main, ["configs/demo.yaml", *TUNE[1:], "--model", "lfm2-demo", "--scenario", "caht"], "'chat'"),
        (simulate.main, [*SIMULATE, "--gpus", "0"], "at least 1"),
        (simulate.main, [*SIMULATE, "--replicas", "0"], "at least 1"),
        (simulate.main, [*SIMULATE, "--startup", "-1"], "below 0"),
        (simulate.main, [*SIMULATE, "--timing", "step_base_ms=-1"], "step_base_ms"),
        (simulate.main, [*SIMULATE, "--policy", "keda:threshold=0"], "above 0"),
        (simulate.main, [*SIMULATE, "--policy", "ours,fixed:-1"], "whole"),
        (simulate.main, [*SIMULATE, "--model", "m"], "--config"),
        (simulate.main, [*SIMULATE, "--slo", "ttft_p0=1s"], "above 0"),
        (simulate.main, [*SIMULATE, "--calibration", "Makefile"], "not what a tuner keeps"),
        (simulate.main, ["--traffic", "steady:rate=0", *SIMULATE[2:]], "nothing would ever come"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else None,
)
def test_a_command_that_cannot_be_ends_with_its_reason(
    main: Callable[[list[str]], int], words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status: object = main(words)
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    assert said in capsys.readouterr().err


def test_a_simulation_without_a_request_does_not_pass(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--traffic", "steady:rate=0.001,duration=1", *SIMULATE[2:], "--policy", "fixed:1", "--max-running", "1"]
    words += ["--lengths", "fixed:prompt=4,output=4"]
    assert simulate.main(words) != 0
    assert "nothing was sent" in capsys.readouterr().err
