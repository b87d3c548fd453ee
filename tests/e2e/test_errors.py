"""A replica's one error schema, over vLLM's own application parts and answers made up; no engine."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from vllm.entrypoints.serve.exception_handling.register import init_exception_handler
from vllm.exceptions import VLLMValidationError
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from serve_app.engine import faults
from serve_app.engine.faults import MODULES, NAME, StreamFailed, error_response, progress
from serve_app.engine.reasons import reason
from serve_app.engine.schema import OneSchema
from serve_app.engine.wording import code_of, field_of, reworded

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
CHUNK = 'data: {"id":"1","choices":[]}\n\n'
DONE = "data: [DONE]\n\n"


class Body(BaseModel):
    """What the application below reads."""

    number: int = 0
    items: list[int] | str | None = None


class App:
    """vLLM's handlers around one route of ours, behind the middleware."""

    def __init__(self) -> None:
        self.dead: str | None = None
        self.answer: Callable[[], Any] = lambda: JSONResponse({"fine": True})
        app = FastAPI()
        app.state.args = type("Args", (), {"log_error_stack": False})()
        app.state.server = app.state.engine_client = None
        init_exception_handler(app)
        faults.install(app)

        async def route(body: Body, request: Request) -> Any:
            return self.answer()

        for path in (CHAT, RESPONSES, MESSAGES):
            app.post(path)(route)
        self.sent: list[dict] = []
        self._schema = OneSchema(app, lambda: self.dead)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def kept(message: dict) -> None:
            self.sent.append(message)
            await send(message)

        await self._schema(scope, receive, kept)


@pytest.fixture
def app() -> App:
    return App()


async def ask(app: App, path: str = CHAT, content: bytes = b"{}", method: str = "POST") -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.request(method, path, content=content, headers={"content-type": "application/json"})


def error_of(answer: httpx.Response, status: int) -> dict:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"} and error["message"]
    assert error["code"] is None or isinstance(error["code"], str)
    return error


def streaming(*events: str | Exception) -> Callable[[], Response]:
    async def pieces() -> AsyncIterator[str]:
        for event in events:
            if isinstance(event, Exception):
                raise event
            yield event

    return lambda: StreamingResponse(pieces(), media_type="text/event-stream")


def in_stream(error: Exception | str) -> str:
    """As vLLM writes it."""
    told = error_response(error)
    return f"data: {json.dumps(told.model_dump())}\n\n"


async def test_what_is_fine_passes_as_it_is(app: App) -> None:
    app.answer = lambda: PlainTextResponse('{"error": 1}', 200, {"x-mine": "1"})
    answer = await ask(app)
    assert (answer.text, answer.headers["x-mine"]) == ('{"error": 1}', "1")
    app.answer = streaming(CHUNK, CHUNK, DONE)
    assert (await ask(app)).text == CHUNK + CHUNK + DONE


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (JSONResponse({"detail": "There was an error parsing the body"}, 400), 400, None),
        (JSONResponse({"error": {"message": "no", "type": "X", "param": None, "code": 400}}, 400), 400, None),
        (JSONResponse({"error": "The model is currently scaling."}, 503), 503, None),
        (JSONResponse({"error": {"message": "n", "type": "x", "param": "p", "code": "kept"}}, 404), 404, "kept"),
        (JSONResponse({"type": "error", "error": {"type": "NotFoundError", "message": "no"}}, 404), 404, None),
        (PlainTextResponse("Internal Server Error", 500), 500, None),
        (Response(status_code=503), 503, None),
        (JSONResponse([1], 422), 422, None),
        (JSONResponse({"error": {"message": "not supported", "code": 501}}, 501), 400, "unsupported"),
        (JSONResponse({"error": {"message": "The model a does not exist", "code": 404}}, 404), 404, "model_not_found"),
    ],
)  # fmt: skip
async def test_every_shape_of_error_becomes_the_one(app: App, answer: Response, status: int, code: str | None) -> None:
    app.answer = lambda: answer
    assert error_of(await ask(app), status)["code"] == code
    told = (await ask(app, MESSAGES)).json()
    assert told.keys() == {"type", "error", "request_id"} and told["error"].keys() == {"type", "message"}


@pytest.mark.parametrize(
    ("body", "words", "param"),
    [
        (b'{"number": "x"}', "number: Input should be a valid integer", "number"),
        (b'{"number": ' + b"9" * 5000 + b"}", "more than 4300 digits", None),
        (b'{"number": "\xff"}', "not UTF-8: byte 12 is 0xff", None),
        (b'{"number": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply", None),
        (b'{"number": ' + b"[" * 400 + b"]" * 400 + b"}", "number", "number"),
        (b'{"number": "\\ud800"}', "number", "number"),
        (b"{", "not valid JSON", None),
        (b"", "is required", None),
        (b"[1]", "object", None),
        (b'{"items": {"a": 1}}', "items: Input should be a valid", "items"),
    ],
    ids=range(10),
)
async def test_what_fastapi_refuses(app: App, body: bytes, words: str, param: str | None) -> None:
    error = error_of(await ask(app, content=body), 400)
    assert words in error["message"] and error["param"] == param


async def test_of_many_problems_the_first_are_told(app: App) -> None:
    body = json.dumps({"items": ["x"] * 50_000}).encode()
    began = time.process_time()
    error = error_of(await ask(app, content=body), 400)
    assert len(error["message"]) < 1000 and error["message"].endswith(" more") and time.process_time() - began < 10


async def test_unknown_routes_and_methods(app: App) -> None:
    assert error_of(await ask(app, "/v1/nothing"), 404)["code"] == "unknown_route"
    assert error_of(await ask(app, method="GET"), 405)["code"] == "method_not_allowed"


def raising(error: Exception) -> Callable[[], Any]:
    def answer() -> Any:
        raise error

    return answer


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        TypeError("'int' object is not iterable"),
        OverflowError("too big"),
        RecursionError("maximum recursion depth exceeded"),
        KeyError("type"),
        IndexError("list index out of range"),
        AttributeError("'list' object has no attribute 'get'", obj=[]),
        AssertionError(),
        ZeroDivisionError("division by zero"),
        NotImplementedError("not here"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
        VLLMValidationError("no", parameter="p"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_a_request_leads_to_before_the_engine_has_it_is_its_fault(app: App, error: Exception) -> None:
    app.answer = raising(error)
    message = error_of(await ask(app), 400)["message"]
    assert "maximum recursion" not in message and "object" not in message.replace("an object", "")


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        AssertionError(),
        RuntimeError("/usr/lib/python3/secret.py broke"),
        OSError("/etc/secret"),
        EngineGenerateError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_fails_in_the_engine_stays_500_and_tells_nothing(app: App, error: Exception) -> None:
    def answer() -> Any:
        progress.get().accepted = True
        raise error

    app.answer = answer
    message = error_of(await ask(app), 500)["message"]
    assert "secret" not in message and "log" in message


async def test_a_stream_whose_first_event_is_an_error_is_an_error_with_a_status(app: App) -> None:
    app.answer = streaming(in_stream(VLLMValidationError("top_k must be small", parameter="top_k")), DONE)
    answer = await ask(app)
    assert error_of(answer, 400)["param"] == "top_k" and answer.headers["content-type"] == "application/json"
    app.answer = streaming(in_stream(EngineDeadError()), DONE)
    app.dead = "gone"
    assert error_of(await ask(app), 500)


@pytest.mark.parametrize(
    ("path", "failing", "words"),
    [
        (CHAT, [in_stream("late"), DONE], "late"),
        (CHAT, [in_stream(EngineGenerateError()), DONE], "log"),
        (CHAT, ['data: {"error": 5}\n\n', DONE], "log"),
        (RESPONSES, [VLLMValidationError("late")], "late"),
        (RESPONSES, [RuntimeError("/usr/lib/secret.py")], "log"),
        (MESSAGES, [StreamFailed(error_response(VLLMValidationError("late")).model_dump_json())], "late"),
    ],
    ids=range(6),
)
async def test_a_stream_that_fails_late_ends_with_its_routes_event(
    app: App, path: str, failing: list[str | Exception], words: str
) -> None:
    if isinstance(failing[0], StreamFailed):  # as vLLM's translation writes what it catches
        told = {"type": "error", "error": {"type": "internal_error", "message": str(failing[0])}}
        failing = [f"event: error\ndata: {json.dumps(told)}\n\n"]
    app.answer = streaming(CHUNK, *failing)
    events = (await ask(app, path)).text.split("\n\n")
    assert events[0] + "\n\n" == CHUNK and events[-1] == "" and len(events) == 3
    name, _, data = events[1].rpartition("data: ")
    told = json.loads(data)
    assert words in told["error"]["message"] and "secret" not in data
    assert name == ("" if path == CHAT else "event: error\n")
    if path == MESSAGES:
        assert told["error"]["type"] == "invalid_request_error"
    else:
        assert told["error"]["code"] is None
    assert app.sent[-1]["more_body"] is False


@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])
async def test_a_stream_whose_engine_dies_is_broken_off(app: App, path: str) -> None:
    failing = in_stream(EngineDeadError()) if path == CHAT else EngineDeadError()
    app.dead, app.answer = "gone", streaming(CHUNK, failing, DONE)
    with pytest.raises(AssertionError):  # httpx: the answer is not complete
        await ask(app, path)
    assert b"".join(one.get("body", b"") for one in app.sent).decode() == CHUNK
    assert app.sent[-1]["more_body"] is True


@pytest.mark.parametrize(
    ("message", "ours"),
    [
        (
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
            '"auto" tool choice requires `tool_parser` of the model\'s entry to be set',
        ),
        (
            "At most 3 image(s) may be provided. Set `--limit-mm-per-prompt` to increase this limit.",
            "At most 3 image(s) may be provided. Set `images_per_prompt` of the model's entry to increase this limit.",
        ),
        (
            "n must be at most 16, got 99. To increase this limit, set the VLLM_MAX_N_SEQUENCES environment variable.",
            "n must be at most 16, got 99.",
        ),
        (
            "81 pixels exceed the maximum of 4 pixels. Set VLLM_MAX_IMAGE_PIXELS to increase this limit.",
            "81 pixels exceed the maximum of 4 pixels. Set `images.max_megapixels` to increase this limit.",
        ),
        (
            "max_tokens=9 cannot be greater than max_model_len=4. Please request fewer output tokens.",
            "max_tokens=9 cannot be greater than `engine_args.max_model_len`=4. Please request fewer output tokens.",
        ),
        (
            "You must set `--enable-prompt-embeds` to input `prompt_embeds`",
            "You must set `engine_args.enable_prompt_embeds` to input `prompt_embeds`",
        ),
        ("no (parameter=logit_bias, value=[1, (2)])", "no"),
        ("Use a -- dash, or a-b.", "Use a -- dash, or a-b."),
    ],
    ids=range(8),
)  # fmt: skip
def test_messages_name_this_configurations_keys(message: str, ours: str) -> None:
    assert reworded(message) == ours


def test_codes_and_fields_are_read_from_messages() -> None:
    assert code_of("This model's maximum context length is 9 tokens.") == "context_length_exceeded"
    assert (field_of("min_p must be in [0, 1]"), field_of("`tools` must not be empty"), field_of("It must")) == (
        "min_p", "tools", None,
    )  # fmt: skip


def test_vllms_rule_is_where_it_was() -> None:
    """Fails when an upgrade moves it."""
    App()
    assert all(getattr(importlib.import_module(name), NAME) is error_response for name in MODULES)


def test_the_reason_for_a_surrogate_can_be_sent() -> None:
    error = UnicodeEncodeError("utf-8", "a\ud800b", 1, 2, "surrogates not allowed")
    assert reason(error).encode() and "\\ud800" in reason(error)
