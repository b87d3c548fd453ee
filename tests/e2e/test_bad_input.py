"""Bad input costs its own request only, and says what was wrong in OpenAI's schema."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import socket
import struct
import zlib
from collections.abc import Callable
from urllib.parse import urlsplit

import anthropic
import httpx
import openai
import pytest
from PIL import Image

from tests.e2e.conftest import TEXT, VISION, data_url
from tests.support.service import Service

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "Hello"}]


@pytest.fixture(autouse=True)
def healthy_afterwards(http: httpx.Client):
    yield
    assert http.get("/ready").status_code == 200
    assert http.post(CHAT, json={"model": TEXT, "messages": HI}).status_code == 200


def error_of(response: httpx.Response, status: int) -> dict:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert {"message", "type", "param", "code"} <= error.keys() and error["message"]
    return error


@pytest.mark.parametrize("body", [b"{", b"", b"[1]", b"null", b'{"model": 3}', b"\xff\xfe", b'"x"'])
def test_what_is_not_a_json_object(http: httpx.Client, body: bytes) -> None:
    error_of(http.post(CHAT, content=body, headers={"content-type": "application/json"}), 400)


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": "Hello"},
        {"messages": []},
        {"messages": HI, "temperature": "warm"},
        {"messages": HI, "temperature": -1},
        {"messages": HI, "max_tokens": 10**6},
        {"messages": HI, "max_tokens": -5},
        {"messages": [{"role": 3, "content": "Hello"}]},
        {"messages": ["Hello"]},
        {"messages": [{"content": "Hello"}]},
        {"messages": [{"role": "user", "content": "word " * 20_000}]},
        {"messages": HI, "tools": "none"},
        {"messages": HI, "response_format": {"type": "json_schema"}},
        {},
    ],
    ids=lambda fields: str(fields)[:60],
)
def test_wrong_fields(http: httpx.Client, fields: dict) -> None:
    error_of(http.post(CHAT, json={"model": TEXT, **fields}), 400)


ASKED = {
    CHAT: {"messages": HI, "max_tokens": 2},
    "/v1/completions": {"prompt": "Hello", "max_tokens": 2},
    "/v1/responses": {"input": "Hello", "max_output_tokens": 2},
    "/v1/messages": {"messages": HI, "max_tokens": 2},
}
WRONG = {
    "top_k": ["18446744073709551616", '"x"'],
    "structured_outputs": ["5", "[1]", '{"regex": "("}'],
    "stop": ['"\\ud800"', '{"a": 1}'],
    "stop_token_ids": ["[18446744073709551616]"],
    "logit_bias": ['{"99999999999999999999": 1}', "[1]"],
    "kv_transfer_params": ['{"\\ud800": 1}'],
    "vllm_xargs": ['{"\\ud800": 1}', "5"],
    "temperature": ["1e400", "[]"],
    "messages": ["false", '[{"role": "user"}, 5]', '[{"role": "assistant", "tool_calls": [{}]}]'],
    "tools": ["5", '[{"type": "function"}]'],
    "seed": ["18446744073709551616"],
}


@pytest.mark.parametrize("path", ASKED)
def test_no_value_of_any_field_is_the_services_fault(http: httpx.Client, path: str) -> None:
    """Streamed and not: an answer, or what was wrong in the route's schema, without vLLM's and Python's words."""
    for (field, values), stream in itertools.product(WRONG.items(), ("true", "false")):
        for value in values:
            asked = {name: json.dumps(one) for name, one in ASKED[path].items()}
            fields = {"model": f'"{TEXT}"', **asked, field: value, "stream": stream}
            body = "{" + ",".join(f'"{name}":{text}' for name, text in fields.items()) + "}"
            answer = http.post(path, content=body.encode(), headers={"content-type": "application/json"})
            assert answer.status_code in (200, 400), (field, value, stream, answer.text)
            if answer.status_code == 400:
                assert_told(answer, path)
            else:
                # A stream of /v1/responses has begun when its parameters reach the engine.
                assert '"error": {' not in answer.text or path == "/v1/responses", (field, value, answer.text)


def assert_told(answer: httpx.Response, path: str) -> None:
    told = answer.json()
    if path == "/v1/messages":
        assert told.keys() == {"type", "error", "request_id"} and told["type"] == "error"
        assert told["error"].keys() == {"type", "message"} and told["error"]["type"] == "invalid_request_error"
    else:
        error = error_of(answer, 400)
        assert error["type"] == "invalid_request_error" and isinstance(error["code"], (str, type(None)))
    message = told["error"]["message"]
    assert message and len(message) <= 2000 and not re.search(r"--[a-z]|VLLM_|object has no|pydantic", message), message


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("bad", [b'"\xff"', b"9" * 5000, b"[" * 100_000], ids=["utf-8", "digits", "depth"])
def test_bodies_that_cannot_be_read(http: httpx.Client, path: str, bad: bytes) -> None:
    body = b'{"model": "' + TEXT.encode() + b'", "user": ' + bad + b"}"
    answer = http.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert_told(answer, path)


def test_openais_client_raises_what_it_names(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=TEXT, messages=[{"role": "user", "content": "word " * 20_000}])
    assert raised.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError):
        list(client.chat.completions.create(model=TEXT, messages=HI, stream=True, extra_body={"top_k": 2**64}))
    with pytest.raises(openai.APIError, match="stop_token_ids"):
        list(client.responses.create(model=TEXT, input="a", stream=True, extra_body={"stop_token_ids": [2**64]}))
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="nope", input="a")


def test_anthropics_client_raises_what_it_names(service: Service) -> None:
    with anthropic.Anthropic(base_url=service.url, api_key="none", max_retries=0) as client:
        asked = {"model": TEXT, "max_tokens": 4, "messages": HI}
        with pytest.raises(anthropic.NotFoundError):
            client.messages.create(**asked | {"model": "nope"})
        for wrong in (
            {"max_tokens": 5000},
            {"messages": []},
            {"messages": [{"role": "user", "content": "a " * 9000}]},
        ):
            for stream in (False, True):
                with pytest.raises(anthropic.BadRequestError) as raised:
                    list(client.messages.create(**asked | wrong, stream=stream))
                assert raised.value.body["error"]["type"] == "invalid_request_error"
        tool = {"name": "f", "input_schema": {"type": "object", "properties": {}}}
        answer = client.messages.create(**asked, tools=[tool], tool_choice={"type": "none"})
        assert answer.content[0].type == "text" and answer.stop_reason in ("end_turn", "max_tokens")


def test_an_unknown_model_lists_the_models(http: httpx.Client) -> None:
    error = error_of(http.post(CHAT, json={"model": "lfm2-dem", "messages": HI}), 404)
    assert "lfm2-demo" in error["message"] and error["code"] == "model_not_found"
    error_of(http.get("/v1/models/nope"), 404)


def test_no_model_when_several_are_served(http: httpx.Client) -> None:
    assert error_of(http.post(CHAT, json={"messages": HI}), 400)["param"] == "model"


def test_wrong_content_type(http: httpx.Client) -> None:
    error_of(http.post(CHAT, content=b"{}", headers={"content-type": "text/plain"}), 415)


def test_unknown_routes_and_methods(http: httpx.Client) -> None:
    error_of(http.get("/v1/nothing"), 404)
    error_of(http.post("/v1/audio/speech", json={"model": TEXT}), 404)
    error_of(http.get(CHAT), 405)
    error_of(http.delete("/v1/models"), 405)


def test_a_route_the_model_does_not_have(http: httpx.Client) -> None:
    error_of(http.post("/v1/embeddings", json={"model": TEXT, "input": "Hello"}), 404)


def test_a_body_over_the_limit_is_not_read(service: Service) -> None:
    where = urlsplit(service.url)
    with socket.create_connection((where.hostname, where.port), timeout=10) as raw:
        raw.sendall(
            f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {10**10}\r\n\r\n".encode()
            + b"x" * 1000
        )
        assert raw.recv(64).startswith(b"HTTP/1.1 413")


def test_a_chunked_body_over_the_limit(http: httpx.Client) -> None:
    def chunks():
        for _ in range(40):
            yield b" " * 2**20

    error_of(http.post(CHAT, content=chunks(), headers={"content-type": "application/json"}), 413)


def image_request(http: httpx.Client, url: str, model: str = VISION) -> httpx.Response:
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What colour is this?"}]
    return http.post(CHAT, json={"model": model, "messages": [{"role": "user", "content": content}]})


def test_an_image_for_a_text_model(http: httpx.Client, picture: Callable[..., bytes]) -> None:
    error_of(image_request(http, data_url(picture("red")), TEXT), 400)


def test_corrupt_images(http: httpx.Client, picture: Callable[..., bytes]) -> None:
    for data in (b"no image", picture("red")[:60], b""):
        error_of(image_request(http, f"data:image/png;base64,{base64.b64encode(data).decode()}"), 400)
    error_of(image_request(http, "data:image/png;base64,@@@"), 400)


def test_an_image_that_unpacks_to_too_much(http: httpx.Client) -> None:
    side = 30_000

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * ((side // 8 + 1) * side), 9)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    error_of(image_request(http, data_url(bomb)), 400)


def test_too_many_images(http: httpx.Client, picture: Callable[..., bytes]) -> None:
    content = [{"type": "image_url", "image_url": {"url": data_url(picture("red"))}}] * 4
    error_of(http.post(CHAT, json={"model": VISION, "messages": [{"role": "user", "content": content}]}), 400)


@pytest.mark.parametrize("path", ["/redirect", "/missing", "/slow", "/text"])
def test_image_urls_that_give_no_image(http: httpx.Client, image_host: str, path: str) -> None:
    error_of(image_request(http, image_host + path), 400)


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1/x.png",
        "http://localhost/x.png",
        "ftp://127.0.0.1/x",
        "file:///etc/hostname",
        "http://127.0.0.1:1/x",
    ],
)
def test_image_urls_that_are_forbidden_or_unreachable(http: httpx.Client, url: str) -> None:
    error_of(image_request(http, url), 400)


def test_a_large_image_within_the_limit_works(http: httpx.Client) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4000, 4000), "blue").save(buffer, "PNG")
    assert "blue" in image_request(http, data_url(buffer.getvalue())).json()["choices"][0]["message"]["content"].lower()
