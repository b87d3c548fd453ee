"""What vLLM takes, the service takes; what a client may say reaches vLLM, and what it may not does not."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e.conftest import TEXT
from tests.support.service import Service

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "Hello"}]
JSON = {"content-type": "application/json"}


def chat(**fields: object) -> dict:
    return {"model": TEXT, "messages": HI, "max_tokens": 4, "temperature": 0, **fields}


def post(http: httpx.Client, body: str | bytes, path: str = CHAT) -> httpx.Response:
    return http.post(path, content=body, headers=JSON)


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "custom", "content": "Hello"}]},
        {"stream": "true"},
        {"stream": 1},
        {"user": "\ud800"},
        {"foo": float("nan"), "bar": [float("inf"), -float("inf")]},
        {"foo": [{"model": "x"}]},
    ],
    ids=str,
)
def test_what_vllm_takes(http: httpx.Client, fields: dict) -> None:
    answer = post(http, json.dumps(chat(**fields)))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream" if "stream" in fields else "application/json")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-le"])
def test_every_encoding_of_json(http: httpx.Client, encoding: str) -> None:
    assert post(http, json.dumps(chat()).encode(encoding)).status_code == 200


def test_messages_beside_a_prompt(http: httpx.Client) -> None:
    body = {"model": TEXT, "prompt": "Hello", "messages": "x", "max_tokens": 2}
    assert http.post("/v1/completions", json=body).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(chat(messages=[{"role": "user", "content": "\ud800"}])),
        json.dumps(chat(temperature=float("nan"))),
        json.dumps(chat(stream="banana")),
        json.dumps(chat(user="@")).encode().replace(b"@", b"\xff"),
        json.dumps(chat(seed="@")).replace('"@"', "9" * 5000),
        json.dumps(chat(temperature="a" * 2**20)),
    ],
    ids=lambda body: str(body)[:90],
)
def test_what_vllm_refuses(http: httpx.Client, body: str | bytes) -> None:
    answer = post(http, body)
    assert answer.status_code == 400 and len(answer.content) < 10_000


@pytest.mark.parametrize("kind", ["text/plain", "application/vnd.api+json", ""])
def test_another_content_type(http: httpx.Client, kind: str) -> None:
    headers = {"content-type": kind} if kind else {}
    assert http.post(CHAT, content=json.dumps(chat()), headers=headers).status_code == 415


DEEP = {"prompt": "x", "input": "x", "tokens": [1]}


@pytest.mark.parametrize(
    "path",
    [
        CHAT,
        "/v1/chat/completions/batch",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/embeddings",
        "/tokenize",
        "/detokenize",
        "/invocations",
    ],
)
def test_deep_json(http: httpx.Client, path: str) -> None:
    for depth in (800, 960, 2000, 100_000):
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            deep = opening * depth + "1" + closing * depth
            answer = post(http, json.dumps(chat(**DEEP, foo="@")).replace('"@"', deep), path)
            assert answer.status_code in ((200, 400, 404) if depth < 1000 else (400,)), answer.text


def test_deep_json_where_vllm_looks(http: httpx.Client) -> None:
    deep = "[" * 900 + "]" * 900
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": ' + "[" * 5000}}
    for body in (
        json.dumps(chat(messages="@")).replace('"@"', deep),
        json.dumps(chat(tools="@")).replace('"@"', deep),
        json.dumps(chat(messages=[{"role": "user", "content": "@"}])).replace('"@"', deep),
        json.dumps(chat(messages=[*HI, {"role": "assistant", "content": "", "tool_calls": [call]}])),
    ):
        assert post(http, body).status_code == 400


def test_the_id_is_the_clients(http: httpx.Client) -> None:
    assert http.post(CHAT, json=chat(request_id="mine")).json()["id"] == "chatcmpl-mine"
    assert http.post(CHAT, json=chat(), headers={"x-request-id": "head"}).json()["id"] == "chatcmpl-head"
    assert http.post(CHAT, json=chat(request_id="a" * 1000)).status_code == 400
    for value in (b"a" * 300, b"\xff"):
        assert http.post(CHAT, json=chat(), headers=[(b"x-request-id", value)]).status_code == 400


def test_answers_to_one_id_are_not_mixed_up(http: httpx.Client) -> None:
    def ask(question: str, **fields: str) -> str:
        body = chat(messages=[{"role": "user", "content": question}], max_tokens=16, **fields)
        return http.post(CHAT, json=body).json()["choices"][0]["message"]["content"]

    questions = [f"How do I start the service, for the {number}th time?" for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda question: ask(question, request_id="one"), questions))
    assert together == [ask(question) for question in questions]


def test_load_metrics_are_asked_for_by_header(http: httpx.Client) -> None:
    answer = http.post(CHAT, json=chat(), headers={"endpoint-load-metrics-format": "TEXT"})
    assert answer.headers["endpoint-load-metrics"].startswith("TEXT named_metrics.")
    assert "endpoint-load-metrics" not in http.post(CHAT, json=chat()).headers


@pytest.mark.parametrize("priority", [-(2**63), -1, 0, 10, 2**63 - 1])
def test_any_priority_is_taken(http: httpx.Client, priority: int) -> None:
    assert http.post(CHAT, json=chat(priority=priority)).status_code == 200
    assert http.post(CHAT, json=chat(), headers={"x-vllm-priority": str(priority)}).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"kv_transfer_params": {"do_remote_prefill": True, "remote_block_ids": [1], "remote_engine_id": "x"}},
        {"kv_transfer_params": {"do_remote_decode": True}},
        {"ec_transfer_params": {"a": 1}},
        {"vllm_xargs": {"kv_transfer_params": "x"}},
        {"mm_processor_kwargs": {"a": 1}},
        {"media_io_kwargs": {"image": {"a": 1}}},
        {"chat_template": "{{ 1 }}"},
        {"chat_template_kwargs": {"chat_template": "{{ 1 }}", "messages": []}},
        {"cache_salt": "x", "return_token_ids": True, "session_id": "s", "data_parallel_rank": 7},
        {"stop": [str(number) for number in range(100_000)]},
        {"allowed_token_ids": [1] * 100_000},
        {"stop_token_ids": list(range(100_000))},
        {"messages": [{"role": "user", "content": "x"}] * 20_000},
    ],
    ids=lambda fields: str(fields)[:60],
)
def test_fields_that_are_not_for_clients(http: httpx.Client, fields: dict) -> None:
    assert http.post(CHAT, json=chat(**fields)).status_code in (200, 400)
    assert http.post(CHAT, json=chat()).status_code == 200


WRONG = [1] * 50_000


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, {"messages": WRONG}),
        (CHAT, {"messages": HI, "tools": WRONG}),
        (CHAT, {"messages": HI, "logit_bias": {str(number): [] for number in range(20_000)}}),
        ("/v1/chat/completions/batch", {"messages": [WRONG]}),
        ("/v1/completions", {"prompt": [WRONG, {}]}),
        ("/v1/responses", {"input": WRONG}),
        ("/v1/responses", {"input": "x", "tools": WRONG}),
        ("/v1/messages", {"messages": WRONG}),
        ("/v1/messages/count_tokens", {"messages": WRONG}),
        ("/tokenize", {"messages": WRONG}),
        ("/detokenize", {"tokens": [[]] * 20_000}),
        ("/invocations", {"messages": WRONG}),
    ],
    ids=str,
)
def test_a_list_of_wrong_elements_is_judged_by_its_first(http: httpx.Client, path: str, fields: dict) -> None:
    """Else the replica answers nobody for minutes: long enough to be taken for dead."""
    answer = http.post(path, json={"model": TEXT, "max_tokens": 4, **fields}, timeout=60)
    assert answer.status_code == 400 and len(answer.content) < 5000


def test_routes_beside_openais(http: httpx.Client) -> None:
    counted = http.post("/v1/messages/count_tokens", json={"model": TEXT, "messages": HI}).json()
    assert counted["input_tokens"] > 0
    batch = http.post("/v1/chat/completions/batch", json=chat(messages=[HI, HI, HI])).json()
    assert [choice["index"] for choice in batch["choices"]] == [0, 1, 2]
    assert http.post("/invocations", json=chat()).json()["object"] == "chat.completion"
    prompt = {"model": TEXT, "prompt": "Hello", "max_tokens": 2}
    assert http.post("/invocations", json=prompt).json()["object"] == "text_completion"
    assert http.get("/ping").status_code == http.post("/ping").status_code == 200
    scored = {"model": TEXT, "query": "a", "items": ["b", "c"], "label_token_ids": [1, 2]}
    assert len(http.post("/generative_scoring", json=scored).json()["data"]) == 2
    for path in ("/v1/embeddings", "/score", "/v1/rerank", "/pooling", "/classify"):
        assert http.post(path, json={"model": TEXT, "input": "x"}).status_code == 404
    assert http.get("/v1/responses/resp_1").json()["error"]["code"] == "not_offered"


def test_slashes_at_the_end(http: httpx.Client) -> None:
    answer = http.post(f"{CHAT}/", json=chat(), follow_redirects=True)
    assert [one.status_code for one in answer.history] == [307] and answer.json()["object"] == "chat.completion"
    assert http.get("/v1/models/").headers["location"] == "/v1/models"
    assert http.get("/v1/files/").status_code == 307


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /v1/%6dodels HTTP/1.1", 200),
        ("HEAD /v1/models HTTP/1.1", 200),
        ("GET //v1/models HTTP/1.1", 404),
        ("GET /v1/../metrics HTTP/1.1", 404),
        ("GET /v1/models/..%2f..%2fmetrics HTTP/1.1", 404),
        ("GET /v1/models/%ff%00 HTTP/1.1", 404),
        ("GET http://other.example/v1/models HTTP/1.1", 200),
        ("OPTIONS /v1/models HTTP/1.1", 405),
        ("TRACE /v1/models HTTP/1.1", 405),
    ],
)
def test_request_lines(service: Service, line: str, status: int) -> None:
    where = urlsplit(service.url)
    with socket.create_connection((where.hostname, where.port), timeout=10) as raw:
        raw.sendall(f"{line}\r\nHost: other.example\r\nConnection: close\r\n\r\n".encode())
        assert raw.recv(64).split()[1] == str(status).encode()
