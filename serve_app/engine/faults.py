"""Whose fault an exception is.

What goes wrong while a request is read, checked and rendered is the request's: 400, with the reason. Once the engine
has accepted it, only what vLLM itself calls the client's is. vLLM's own rule goes by the exception's type alone, so
that a list where an object belongs (AttributeError) or a lone surrogate (UnicodeEncodeError, which `AsyncLLM.generate`
wraps into an error without a message) are 500. This module puts its rule in vLLM's place, vLLM 0.32.
"""

from __future__ import annotations

import importlib
import logging
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from jinja2 import TemplateError
from starlette.exceptions import HTTPException
from vllm.entrypoints.serve.engine.protocol import ErrorInfo, ErrorResponse
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
from vllm.entrypoints.serve.exception_handling.utils import sanitize_message
from vllm.exceptions import VLLMClientError, VLLMError
from vllm.v1.engine.exceptions import EngineDeadError

from serve_app.engine.reasons import reason, validation_error, wrong_type
from serve_app.http.errors import ApiError
from serve_app.replica.ledger import current

NAME = "create_error_response"
MODULES = (
    "vllm.entrypoints.anthropic.api_router",
    "vllm.entrypoints.serve.engine.serving",
    "vllm.entrypoints.serve.exception_handling.handlers.exception",
    "vllm.entrypoints.serve.exception_handling.handlers.vllm_error",
)
"""Each calls vLLM's rule by a name of its own."""
TALKATIVE = (
    "vllm.entrypoints.anthropic.api_router",
    "vllm.entrypoints.anthropic.serving",
    "vllm.entrypoints.openai.chat_completion.serving",
    "vllm.entrypoints.openai.completion.serving",
)
"""Loggers that write a traceback for each bad request."""
CLIENT_FAULTS = (
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    AssertionError,
    RecursionError,
    NotImplementedError,
    TemplateError,
)
_CODES = {404: "unknown_route", 405: "method_not_allowed"}
INTERNAL = "the engine failed on this request; the service's log says why"

logger = logging.getLogger("ray.serve")


class Progress:
    """How far a request has come."""

    accepted = False
    """By the engine."""


progress: ContextVar[Progress] = ContextVar("progress")
"""The request's, in the tasks that work on it."""


class StreamFailed(Exception):
    """An error of vLLM's chat stream on its way through the translation for /v1/messages, which keeps its text only."""


def install(app: FastAPI) -> None:
    """Let vLLM's application say errors by this module's rule."""
    for name in MODULES:
        module = importlib.import_module(name)
        assert hasattr(module, NAME), f"{name}.{NAME} has moved"
        setattr(module, NAME, error_response)
    for name in TALKATIVE:
        logging.getLogger(name).addFilter(_is_ours)
    messages = getattr(app.state, "anthropic_serving_messages", None)
    if messages is not None:
        messages.create_streaming_error_response = _raise_stream_failed
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    # It has been built already.
    app.middleware_stack = app.build_middleware_stack()


def error_response(
    message: str | Exception,
    err_type: str = "BadRequestError",
    status_code: HTTPStatus = HTTPStatus.BAD_REQUEST,
    param: str | None = None,
) -> ErrorResponse:
    """vLLM's `create_error_response` by this module's rule."""
    if not isinstance(message, Exception):
        return create_error_response(message, err_type, status_code, param)
    error = _innermost(message)
    if is_clients(error):
        text = sanitize_message(reason(error))
        return ErrorResponse(error=ErrorInfo(message=text, type="BadRequestError", code=400, param=_field_of(error)))
    response = create_error_response(error)
    if response.error.code == HTTPStatus.INTERNAL_SERVER_ERROR:
        if not isinstance(error, EngineDeadError):  # said once, by whoever replaces the replica
            account = current.get(None)
            logger.error("request %s failed in the engine", account.id if account else "", exc_info=error)
        response.error.message = INTERNAL
    return response


def is_clients(error: BaseException) -> bool:
    """Whether the request is at fault, by the type of what it led to and how far it had come."""
    if isinstance(error, VLLMError) or not isinstance(error, CLIENT_FAULTS):
        return False
    accepted = (found := progress.get(None)) is not None and found.accepted
    return not accepted or isinstance(error, (ValueError, TypeError, OverflowError, TemplateError))


def _is_ours(record: logging.LogRecord) -> bool:
    """A log's filter: no tracebacks for what is the client's fault."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, StreamFailed):
        error = error.__context__
    return error is None or not (isinstance(error, VLLMClientError) or is_clients(error))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return validation_error(error.errors()).response()


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 400 and isinstance(error.__cause__, Exception):
        why = reason(error.__cause__)
        return ApiError(400, f"the request body cannot be read: {why}", code="invalid_json").response()
    where = f"{request.method} {request.scope['path']}"
    return ApiError(error.status_code, f"{where}: {error.detail}", code=_CODES.get(error.status_code)).response()


def _field_of(error: Exception) -> str | None:
    """The top-level field whose value has the wrong type, found in what vLLM's validators call `data`."""
    name, trace = wrong_type(error), error.__traceback__
    while name and trace is not None:
        data = trace.tb_frame.f_locals.get("data")
        if isinstance(data, dict):
            fields = [field for field, value in data.items() if type(value).__name__ == name]
            if len(fields) == 1 and isinstance(fields[0], str):
                return fields[0]
        trace = trace.tb_next
    return None


def _innermost(error: Exception) -> Exception:
    """The error that a task group or Starlette, which found its answer begun, wrapped."""
    while True:
        if isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        elif type(error) is RuntimeError and isinstance(error.__cause__, Exception):
            error = error.__cause__
        else:
            return error


def _raise_stream_failed(message: str | Exception, *args: Any, **kwargs: Any) -> str:
    raise StreamFailed(error_response(message, *args, **kwargs).model_dump_json())
