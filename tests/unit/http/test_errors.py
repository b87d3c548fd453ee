"""Errors in the schema of their route, and what the official clients make of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anthropic
import openai
import pytest

from serve_app.http.errors import MOST_CHARACTERS, ApiError

BROKEN = ApiError(502, "the replica serving this stream failed", code="replica_failed")
BEGUN = {
    "/v1/chat/completions": b'data: {"id":"1","object":"chat.completion.chunk","choices":[]}\n\n',
    "/v1/completions": b'data: {"id":"1","object":"text_completion","choices":[]}\n\n',
    "/v1/responses": b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"a"}\n\n',
    "/v1/messages": b'event: ping\ndata: {"type":"ping"}\n\n',
}


@pytest.fixture
def server() -> Iterator[str]:
    """Answers POST /STATUS/PATH with that error, of status 200 with a stream that has begun and breaks."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            _, status, rest = self.path.split("/", 2)
            path = f"/{rest}"
            if status == "200":
                self._send(200, "text/event-stream", BEGUN[path] + BROKEN.event(path))
            else:
                self._send(int(status), "application/json", ApiError(int(status), "told", "f", "c").rendered(path))

        def _send(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def ask_openai(url: str, path: str, stream: bool = False) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        if path == "/v1/responses":
            answer = client.responses.create(model="m", input="a", stream=stream)
        elif path == "/v1/completions":
            answer = client.completions.create(model="m", prompt="a", stream=stream)
        else:
            messages = [{"role": "user", "content": "a"}]
            answer = client.chat.completions.create(model="m", messages=messages, stream=stream)
        list(answer)


def ask_anthropic(url: str, stream: bool = False) -> None:
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        messages = [{"role": "user", "content": "a"}]
        list(client.messages.create(model="m", max_tokens=1, messages=messages, stream=stream))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_a_broken_stream_makes_openais_client_raise(server: str, path: str) -> None:
    with pytest.raises(openai.APIError, match="replica serving this stream failed") as raised:
        ask_openai(f"{server}/200", path, stream=True)
    assert raised.value.code == "replica_failed"


def test_a_broken_stream_makes_anthropics_client_raise(server: str) -> None:
    with pytest.raises(anthropic.APIStatusError, match="replica serving this stream failed"):
        ask_anthropic(f"{server}/200", stream=True)


@pytest.mark.parametrize(
    ("status", "raises", "kind"),
    [
        (400, openai.BadRequestError, "invalid_request_error"),
        (401, openai.AuthenticationError, "authentication_error"),
        (404, openai.NotFoundError, "not_found_error"),
        (413, openai.APIStatusError, "invalid_request_error"),
        (429, openai.RateLimitError, "rate_limit_error"),
        (500, openai.InternalServerError, "api_error"),
        (503, openai.InternalServerError, "service_unavailable_error"),
    ],
)
def test_openais_client_raises_by_status(
    server: str, status: int, raises: type[openai.APIStatusError], kind: str
) -> None:
    with pytest.raises(raises) as raised:
        ask_openai(f"{server}/{status}", "/v1/chat/completions")
    assert (raised.value.type, raised.value.param, raised.value.code) == (kind, "f", "c")


@pytest.mark.parametrize(
    ("status", "raises", "kind"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.AuthenticationError, "authentication_error"),
        (403, anthropic.PermissionDeniedError, "permission_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (413, anthropic.APIStatusError, "request_too_large"),
        (415, anthropic.APIStatusError, "invalid_request_error"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (502, anthropic.APIStatusError, "api_error"),
        (503, anthropic.APIStatusError, "overloaded_error"),
    ],
)
def test_anthropics_client_raises_by_status(
    server: str, status: int, raises: type[anthropic.APIStatusError], kind: str
) -> None:
    with pytest.raises(raises) as raised:
        ask_anthropic(f"{server}/{status}")
    assert raised.value.body == {"type": "error", "error": {"type": kind, "message": "told"}, "request_id": None}


@pytest.mark.parametrize(
    ("path", "anthropics"),
    [
        ("/v1/messages", True),
        ("/v1/messages/count_tokens", True),
        ("/v1/messages/", True),
        ("/v1/messages2", False),
        ("/v1/chat/completions", False),
        ("/v1/responses", False),
        ("/nothing", False),
        ("", False),
    ],
)
def test_the_path_decides_the_schema(path: str, anthropics: bool) -> None:
    assert ("type" in json.loads(ApiError(400, "a").rendered(path))) is anthropics


def test_what_a_client_sent_is_not_echoed_whole() -> None:
    error = ApiError(404, f"no {'x' * 10**6} here", param="y" * 10**6)
    assert len(error.body) < MOST_CHARACTERS + 500 and error.message.startswith("no x")
    assert error.message.endswith("x here")


def test_a_lone_surrogate_can_be_quoted() -> None:
    assert json.loads(ApiError(400, "\ud800").body)["error"]["message"] == "\ud800"
