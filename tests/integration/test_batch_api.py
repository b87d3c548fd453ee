"""OpenAI's Batch API on a service with simulated engines, through the official client."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest

from tests.support.batches import contents, create, end, lines
from tests.support.service import Service

URL = "/v1/completions"


@pytest.fixture
def client(simulated: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{simulated.url}/v1", api_key="none", max_retries=5, timeout=30)


def prompts(model: str, count: int, tokens: int = 8) -> bytes:
    return lines(({"model": model, "prompt": f"p{id}", "max_tokens": tokens} for id in range(count)), URL)


def until(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_batch_from_upload_to_download(client: openai.OpenAI, simulated: Service) -> None:
    unknown = b'{"custom_id": "x", "method": "POST", "url": "/v1/completions", "body": {"model": "unknown"}}\n'
    adapter = (
        b'{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"model": "other", "prompt": ""}}\n'
    )
    batch = create(client, prompts("pair", 40) + adapter + unknown, URL)
    assert batch.status == "validating" and batch in client.batches.list(limit=1).data
    batch = end(client, batch)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 41, 1)
    answers = contents(client, batch.output_file_id)
    assert answers.keys() == {"a", *(str(number) for number in range(40))}
    assert answers["a"]["response"]["body"]["model"] == "other"
    assert all(answer["response"]["status_code"] == 200 for answer in answers.values())
    error = contents(client, batch.error_file_id)["x"]
    assert error["response"]["status_code"] == 404 and error["error"]["line"] == 42
    assert client.files.retrieve(batch.output_file_id).purpose == "batch_output"
    assert client.files.delete(batch.input_file_id).deleted
    metrics = httpx.get(f"{simulated.url}/metrics").text
    assert 'serve_app_batch_lines_total{outcome="done"' in metrics and 'serve_app_batches{status="completed"' in metrics


def test_lines_that_cannot_be_read_cost_only_themselves(client: openai.OpenAI) -> None:
    """Five such files: each used to keep one of the four places for ever."""
    deep = b'{"custom_id": "deep", "method": "POST", "url": "/v1/completions", "body": {"model": "pair", "foo": %b}}\n'
    input = b"\xef\xbb\xbf" + prompts("pair", 2) + deep % (b"[" * 2000 + b"]" * 2000)
    for batch in [create(client, input, URL) for _ in range(5)]:
        batch = end(client, batch)
        assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 2, 1)
        assert "nested too deeply" in contents(client, batch.error_file_id)["deep"]["error"]["message"]


def test_no_file_id_leads_out_of_the_api(simulated: Service) -> None:
    for path in ("/v1/files/..%2f..%2fmetrics", "/v1/files/%2e%2e%2f%2e%2e%2fmetrics/content", "/v1/files?limit=²"):
        answer = httpx.get(simulated.url + path)
        assert answer.status_code in (400, 404) and answer.json()["error"]["message"], path


def test_cancelling_yields_what_is_answered(client: openai.OpenAI) -> None:
    batch = create(client, prompts("narrow", 300), URL)
    until(lambda: client.batches.retrieve(batch.id).request_counts.completed > 0)
    assert client.batches.cancel(batch.id).status == "cancelling"
    cancelled = end(client, batch, 10)
    assert cancelled.status == "cancelled"
    assert 0 < len(contents(client, cancelled.output_file_id)) == cancelled.request_counts.completed < 300


def test_a_batch_outlives_the_process_that_runs_it(client: openai.OpenAI, batch_directory: Path) -> None:
    batch = create(client, prompts("pair", 400), URL)
    until(lambda: client.batches.retrieve(batch.id).request_counts.completed > 20)
    os.kill(holder(batch_directory / "batch.sqlite3"), signal.SIGKILL)
    batch = end(client, batch)
    assert batch.status == "completed" and batch.request_counts.completed == 400
    assert contents(client, batch.output_file_id).keys() == {str(number) for number in range(400)}


def test_an_upload_comes_no_faster_than_it_is_stored(
    client: openai.OpenAI, simulated: Service, batch_directory: Path
) -> None:
    """While its process stands still, so does the client: none of the processes between them keeps the upload."""
    sent = 0

    def form() -> Iterator[bytes]:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
        for _ in range(128):
            yield bytes(2**20)
            sent += 2**20
        yield b"\r\n--b--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=b"}
    pid = holder(batch_directory / "batch.sqlite3")
    os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as thread:
            upload = thread.submit(httpx.post, f"{simulated.url}/v1/files", content=form(), headers=headers, timeout=60)
            until(lambda: sent > 0)
            before = 0
            while before < sent:
                before = sent
                time.sleep(1)
            os.kill(pid, signal.SIGCONT)
            file = upload.result().json()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert before < 64 * 2**20
    assert file["bytes"] == 128 * 2**20
    assert client.files.delete(file["id"]).deleted


@pytest.mark.parametrize(("model", "fewest", "most"), [("scaled", 1, 2), ("sleepy", 0, 1)])
def test_a_backlog_brings_replicas_and_lets_them_go(
    client: openai.OpenAI, simulated: Service, model: str, fewest: int, most: int
) -> None:
    def ready() -> int:
        return httpx.get(f"{simulated.url}/ready").json()["models"][model]["ready"]

    until(lambda: ready() == fewest)
    batch = create(client, prompts(model, 200, tokens=16), URL)
    until(lambda: ready() >= most)
    assert end(client, batch).request_counts.completed == 200
    until(lambda: ready() == fewest)


def holder(path: Path) -> int:
    """The process that has this file open."""
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            if any(link.is_symlink() and os.readlink(link) == str(path) for link in folder.iterdir()):
                return int(folder.parent.name)
        except OSError:
            continue
    raise AssertionError(f"nobody has {path} open")
