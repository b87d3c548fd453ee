"""How an error looks on each route: OpenAI's schema, and Anthropic's on /v1/messages.

The events that end a stream are such that the official clients raise. OpenAI's takes a stream's error from the key
`error` of an event, on every route, and Anthropic's from the event's name.
"""

from __future__ import annotations

import json
from typing import Any

_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
    499: "client_closed_request",
    501: "invalid_request_error",
    502: "upstream_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    501: "invalid_request_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""https://docs.anthropic.com/en/api/errors. Theirs answers overload with 529, which their client treats as it treats
503: it waits for Retry-After and tries again. Proxies and monitors know 503."""


class OpenAIErrors:
    """Chat, completions, embeddings, files, batches, and whatever is this service's own."""

    def error(self, status: int, message: str, param: str | None, code: str | None) -> dict[str, Any]:
        """The body of an answer. `code` is a string or null, never a number."""
        kind = _type(_OPENAI_TYPES, status)
        return {"error": {"message": message, "type": kind, "param": param, "code": code}}

    def event(self, status: int, message: str, param: str | None, code: str | None) -> bytes:
        """The last event of a stream."""
        return b"data: " + to_json(self.error(status, message, param, code)) + b"\n\n"


class ResponsesErrors(OpenAIErrors):
    """/v1/responses, whose streams have named events."""

    def event(self, status: int, message: str, param: str | None, code: str | None) -> bytes:
        """OpenAI's `error` event with the error a second time under the key that makes its client raise."""
        told = {"type": "error", "sequence_number": 0, "code": code, "message": message, "param": param}
        told |= self.error(status, message, param, code)
        return b"event: error\ndata: " + to_json(told) + b"\n\n"


class AnthropicErrors:
    """/v1/messages and below."""

    def error(self, status: int, message: str, param: str | None, code: str | None) -> dict[str, Any]:
        """The body of an answer. Their schema has no place for `param` and `code`."""
        error = {"type": _type(_ANTHROPIC_TYPES, status), "message": message}
        return {"type": "error", "error": error, "request_id": None}

    def event(self, status: int, message: str, param: str | None, code: str | None) -> bytes:
        """The last event of a stream."""
        return b"event: error\ndata: " + to_json(self.error(status, message, param, code)) + b"\n\n"


_OPENAI, _RESPONSES, _ANTHROPIC = OpenAIErrors(), ResponsesErrors(), AnthropicErrors()


def dialect(path: str) -> OpenAIErrors | AnthropicErrors:
    """The one spoken on a request's path."""
    if path.startswith("/v1/messages") and path[12:13] in ("", "/"):
        return _ANTHROPIC
    return _RESPONSES if path.startswith("/v1/responses") else _OPENAI


def to_json(value: dict[str, Any]) -> bytes:
    """As JSON in ASCII, which a lone surrogate in a quoted text cannot break."""
    return json.dumps(value).encode()


def _type(types: dict[int, str], status: int) -> str:
    return types.get(status) or ("invalid_request_error" if status < 500 else "api_error")
