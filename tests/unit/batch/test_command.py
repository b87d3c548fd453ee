"""The command without engines: what it says, and its exit status."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from serve_app.batch import command
from serve_app.batch.run.client import ServiceResponse
from serve_app.batch.run.input import InputLine, Scan
from serve_app.batch.run.journal import Journal
from serve_app.batch.run.output import answered, tally
from serve_app.config.schema import ServiceConfig
from tests.support.batches import lines

NOWHERE = "http://127.0.0.1:9"
DEEP = b"[" * 2000 + b"]" * 2000


class Odd(BaseHTTPRequestHandler):
    """A service whose answers are what the test says."""

    models: ClassVar[bytes] = b'{"data": [{"id": "m"}]}'
    answers: ClassVar[bytes] = b"{}"

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/v1/models" else 404)
        self.end_headers()
        self.wfile.write(self.models)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answers)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def odd() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def input(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_bytes(lines([{"model": "m", "prompt": "a"}], "/v1/completions"))
    return path


def run(input: Path, url: str, *more: str) -> int:
    return command.main([str(input), "--out", str(input.with_name("out.jsonl")), "--base-url", url, *more])


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_a_file_without_lines_is_an_error(input: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    input.write_bytes(content)
    assert run(input, NOWHERE) == 2
    assert f"{input}: there are no lines" in capsys.readouterr().err and not input.with_name("out.jsonl").exists()


def test_the_summary_counts_failed_lines_apart(odd: str, input: Path, capsys: pytest.CaptureFixture[str]) -> None:
    input.write_bytes(lines([{"model": "m"}, {"model": "other"}], "/v1/completions") + b'{"x": ' + DEEP + b"}\n")
    assert run(input, odd) == 1
    assert "1 of 3 lines answered, 2 failed\n" in capsys.readouterr().out
    assert run(input, NOWHERE) == 1
    assert "1 of 3 lines answered, 2 failed; 3 of them by earlier runs" in capsys.readouterr().out
    input.with_name("out.errors.jsonl").unlink()
    input.with_name("out.jsonl").unlink()
    input.write_bytes(b"{\n")
    assert run(input, odd) == 1
    assert "0 of 1 lines answered, 1 failed\n" in capsys.readouterr().out


def test_what_was_not_foreseen_is_said_in_one_line(
    input: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(files: object) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(command, "scan", broken)
    assert run(input, NOWHERE, "--quiet") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "RecursionError: too deep" in line


@pytest.mark.parametrize("models", [DEEP, b"<html>", b'{"data": 5}', b"\xff"], ids=["deep", "html", "number", "binary"])
def test_what_is_no_service_is_told(
    odd: str, input: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, models: bytes
) -> None:
    monkeypatch.setattr(Odd, "models", models)
    assert run(input, odd, "--quiet") == 2
    assert "answers no list of models" in capsys.readouterr().err


@pytest.mark.parametrize(
    "answer",
    [b'{"x": ' + DEEP + b"}", b"<html>", b'{"id": "\xff"}', b'{"x":\n' + DEEP + b"}"],
    ids=["deep", "html", "binary", "deep lines"],
)
def test_an_answer_that_cannot_be_read_fails_its_line(
    odd: str, input: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setattr(Odd, "answers", answer)
    assert run(input, odd, "--quiet") == 1
    (error,) = map(json.loads, input.with_name("out.errors.jsonl").read_text().splitlines())
    assert error["error"]["code"] == "no_json" and error["custom_id"] == "0"
    assert run(input, odd, "--quiet") == 1, "the error file is read again"


def test_an_answer_that_is_too_deep_only_inside_its_line_is_counted(tmp_path: Path) -> None:
    scanned = Scan(lines=1, fingerprint="f00d", lines_of={})
    input_line = InputLine(0, tmp_path, 1, 0, b"")
    with Journal(tmp_path / "out", tmp_path / "errors", scanned) as journal:
        record = answered(journal.id(0), "a", ServiceResponse(200, b'{"x": 5}'), input_line)
        journal.add(0, record.data.replace(b"5", DEEP), failed=False)
    with Journal(tmp_path / "out", tmp_path / "errors", scanned) as journal:
        assert journal.succeeded == 1
    assert tally(tmp_path / "out", tmp_path / "errors").completed == 1


def test_models_are_started_for_their_adapters(tmp_path: Path) -> None:
    own = {"directory": str(tmp_path), "list": [{"id": "listed", "source": "nobody/listed"}]}
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "adapter_config.json").write_text("{}")
    service = ServiceConfig.parse({"models": [{"id": "m", "engine": "simulated", "adapters": own}]})
    assert command._names(service.models[0]) == {"m", "listed", "found"}
