"""What the load client makes of answers, from recorded bytes through a real socket, however they are split."""

from __future__ import annotations

import json
from collections.abc import Iterable
from random import Random

import gevent.socket
import pytest

from loadtests.loadgen.client import LoadClient
from loadtests.loadgen.scenarios import ScenarioRequest
from loadtests.loadgen.sse import Stream
from loadtests.results.record import Record


def chunk(text: str, finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": finish}
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice], **more}
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":11,"total_tokens":18,"completion_tokens":7}}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE = ROLE + chunk("Hello") + chunk(" there,") + chunk(" you", "stop") + USAGE + DONE
ERROR = b'data: {"error": {"message": "the engine died", "type": "upstream_error", "code": "engine_dead"}}\n\n'


def served(pieces: Iterable[bytes], stream: bool = True) -> tuple[Record, list[float], list[str | None]]:
    """What a request comes to when a server writes these pieces and closes."""
    listener = gevent.socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    told: list[tuple[Record, list[float]]] = []
    texts: list[str | None] = []

    def serve() -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        for piece in pieces:
            connection.sendall(piece)
            gevent.sleep(0.001)
        connection.close()

    server = gevent.spawn(serve)
    port = listener.getsockname()[1]
    client = LoadClient(f"http://127.0.0.1:{port}", "", 5, lambda record, gaps: told.append((record, gaps)))
    client.send(ScenarioRequest("chat", b"{}", stream, on_text=texts.append), 0.0, 0.0)
    client.close()
    server.join(5)
    listener.close()
    [(record, gaps)] = told
    return record, gaps, texts


def http(body: bytes, status: str = "200 OK", pieces: int | None = None, cut: int = 0) -> list[bytes]:
    """An answer in chunked encoding, split into pieces at random, without its last `cut` bytes."""
    whole = (
        b"HTTP/1.1 " + status.encode() + b"\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    whole += b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    whole = whole[: len(whole) - cut]
    if pieces is None:
        return [whole]
    cuts = sorted(Random(pieces).sample(range(1, len(whole)), pieces - 1))
    return [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


@pytest.mark.parametrize("pieces", [1, 2, 7, 40, 200])
def test_a_stream_is_the_same_however_it_is_split(pieces: int) -> None:
    record, _, texts = served(http(WHOLE, pieces=pieces))
    assert (record.outcome, record.detail) == ("ok", "")
    assert (record.prompt_tokens, record.output_tokens) == (11, 7)
    assert record.ttft_s is not None and 0 < record.ttft_s <= record.latency_s
    assert texts == ["Hello there, you"]


def test_a_server_that_ends_its_lines_with_crlf_is_understood() -> None:
    record, _, texts = served(http(WHOLE.replace(b"\n", b"\r\n"), pieces=20))
    assert (record.outcome, record.output_tokens, texts) == ("ok", 7, ["Hello there, you"])


def test_the_first_token_is_text_not_the_role() -> None:
    body = b"HTTP/1.1 200 OK\r\n\r\n"
    record, gaps, _ = served([body + ROLE, *[b""] * 30, chunk("a"), *[b""] * 30, chunk("b", "stop"), USAGE + DONE])
    assert record.ttft_s is not None and record.ttft_s > 0.03
    assert len(gaps) == 1 and gaps[0] > 0.03 and record.worst_gap_s == gaps[0]


def test_texts_that_come_together_have_no_gap() -> None:
    stream = Stream()
    for text, at_s in [("a", 1.0), ("b", 1.0), ("c", 1.5), ("d", 1.5)]:
        stream.line(chunk(text), at_s)
    assert (stream.texts, stream.gaps) == (4, [0.5])


def test_without_usage_the_texts_are_counted() -> None:
    assert served(http(ROLE + chunk("a") * 2 + chunk("c", "length") + DONE))[0].output_tokens == 3


@pytest.mark.parametrize(
    ("pieces", "detail"),
    [
        (http(ROLE + chunk("a") + ERROR), "error event: engine_dead"),
        (http(ROLE + chunk("a") + ERROR + DONE), "error event: engine_dead"),
        (http(ROLE + chunk("a") + USAGE + DONE), "truncated: no finish_reason"),
        (http(ROLE + chunk("a", "stop") + USAGE), "truncated: no [DONE]"),
        (http(WHOLE, cut=30), "truncated: the connection closed before the answer's end"),
        ([], "truncated: the connection closed before the answer's end"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"], "empty"),
        (http(DONE), "empty"),
        (http(b": ping\n\n" * 3 + DONE), "empty"),
        (http(ROLE + chunk("", "stop") + USAGE + DONE), "empty"),
        (http(ROLE + chunk("", "stop") + DONE), "empty"),
        (http(ROLE + chunk("a", "stop") + USAGE.replace(b":7", b":0") + DONE), "empty"),
        (http(b'data: {"choices":[]}\n\n' + DONE), "truncated: no finish_reason"),
        (http(ROLE + b'data: {"choices":[{"delta":{"cont\n\n' + WHOLE), "malformed: a chunk that cannot be parsed"),
        (http(b"data: \xff\n\n" + WHOLE), "malformed: a chunk that cannot be parsed"),
        (http(b'data: {"choices": 5}\n\n' + WHOLE), "malformed: a chunk that cannot be parsed"),
        (http(b'data: {"x": ' + b"[" * 100_000 + b"\n\n" + WHOLE), "malformed: a chunk that cannot be parsed"),
        (http(b"<html>Welcome!</html>\n"), "malformed: no event stream"),
        (http(b"<html>Welcome!</html>"), "malformed: no event stream"),
        (http(ROLE + b'data: {"choices":[{"delta":{"cont'), "malformed: a chunk that cannot be parsed"),
        (http(b'{"choices": [], "usage": {"prompt_tokens": 1}}\n'), "malformed: no event stream"),
        (http(b'{"error": {"code": "replicas_failed"}}', "503 Service Unavailable"), "503 replicas_failed"),
        (http(b"<html>oops</html>", "502 Bad Gateway"), "502"),
        (http(b'{"error": {"code": null, "type": "invalid_request_error"}}', "400 Bad"), "400 invalid_request_error"),
    ],
)
def test_an_answer_that_is_not_whole_is_a_failure(pieces: list[bytes], detail: str) -> None:
    record, _, texts = served(pieces)
    assert (record.outcome, record.detail, texts) == ("failed", detail, [None])


@pytest.mark.parametrize(
    ("status", "code"),
    [("429 Too Many Requests", "overloaded"), ("503 Service Unavailable", "model_not_ready"), ("429 No", "")],
)
def test_a_service_that_is_full_or_not_ready_refuses(status: str, code: str) -> None:
    record, _, _ = served(http(json.dumps({"error": {"code": code}}).encode(), status))
    assert (record.outcome, record.detail) == ("refused", f"{status[:3]} {code}".strip())


def test_what_a_model_says_about_errors_is_text() -> None:
    said = 'data: {"error": 1} "finish_reason":"stop" "usage":{"prompt_tokens":1}'
    record, _, texts = served(http(chunk(said) + chunk("", "length") + USAGE + DONE))
    assert (record.outcome, texts, record.output_tokens) == ("ok", [said], 7)


def test_a_whole_answer_has_usage_and_no_ttft() -> None:
    body = {"choices": [{"finish_reason": "stop", "message": {"content": "x"}}]}
    body["usage"] = {"prompt_tokens": 3, "completion_tokens": 4}  # type: ignore[assignment]
    record, _, _ = served(http(json.dumps(body).encode(), pieces=5), stream=False)
    assert (record.outcome, record.ttft_s, record.prompt_tokens, record.output_tokens) == ("ok", None, 3, 4)


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (b"{}", "malformed: no answer with its usage"),
        (b"<html></html>", "malformed: no answer with its usage"),
        (b'{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}', "empty"),
        (
            b'{"choices": [{"finish_reason": "stop", "message": {"content": "x"}}], "usage": {"prompt_tokens": 3}}',
            "empty",
        ),
        (
            b'{"choices": [{"finish_reason": "stop", "message": {"content": ""}}],'
            b' "usage": {"prompt_tokens": 3, "completion_tokens": 4}}',
            "empty",
        ),
        (
            b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}',
            "truncated: no finish_reason",
        ),
    ],
)
def test_a_whole_answer_that_is_none_is_a_failure(answer: bytes, detail: str) -> None:
    record, _, _ = served(http(answer), stream=False)
    assert (record.outcome, record.detail) == ("failed", detail)


def test_a_call_is_an_answer() -> None:
    call = b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"name":"f"}}]}}]}\n\n'
    assert served(http(ROLE + call + chunk("", "tool_calls") + USAGE + DONE))[0].outcome == "ok"


def test_a_service_that_is_not_there_is_a_failure() -> None:
    listener = gevent.socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    told: list[Record] = []
    client = LoadClient(f"http://127.0.0.1:{port}", "", 5, lambda record, gaps: told.append(record))
    client.send(ScenarioRequest("chat", b"{}", True), 0.0, 0.0)
    assert [(one.outcome, one.detail) for one in told] == [("failed", "ConnectionRefusedError")]


def test_a_request_that_is_killed_is_recorded() -> None:
    listener = gevent.socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    told: list[Record] = []
    port = listener.getsockname()[1]
    client = LoadClient(f"http://127.0.0.1:{port}", "", 5, lambda record, gaps: told.append(record))
    sending = gevent.spawn(client.send, ScenarioRequest("chat", b"{}", True), 0.0, 0.0)
    gevent.sleep(0.05)
    sending.kill()
    listener.close()
    assert [(one.outcome, one.detail) for one in told] == [("failed", "cut off by the end of the test")]
