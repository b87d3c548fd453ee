"""A line of the output or of the error file, in OpenAI's batch format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec

from serve_app.batch.run.client import Answer, NoAnswer
from serve_app.batch.run.lines import Raw
from serve_app.http.json_bytes import UNREADABLE


class Tokens(msgspec.Struct):
    """Chat, completions and embeddings count in the first two, responses in the others."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Reply(msgspec.Struct):
    """What is read of an answer's body."""

    id: str = ""
    usage: Tokens | None = None
    error: Any = None


_reply = msgspec.json.Decoder(_Reply)


@dataclass(frozen=True, slots=True)
class Record:
    """A line to write, and what to count."""

    line: bytes
    error: str | None
    """The kind of failure; None for an answer."""
    prompt_tokens: int = 0
    output_tokens: int = 0


def answered(id: str, custom_id: str, answer: Answer | NoAnswer, raw: Raw) -> Record:
    """What came of a line that was sent, in the end."""
    if isinstance(answer, NoAnswer):
        return Record(refused(id, custom_id, "no_answer", str(answer), raw), "no_answer")
    try:
        reply, body = _reply.decode(answer.body), answer.body
        if b"\n" in body:
            body = msgspec.json.format(body, indent=-1)
    except UNREADABLE:
        reply, body = _Reply(), json.dumps(answer.body.decode(errors="replace")).encode()
        if answer.status == 200:
            return Record(refused(id, custom_id, "no_json", "the answer is not JSON", raw), "no_json")
    response = b'{"status_code":%d,"request_id":%b,"body":%b}' % (answer.status, json.dumps(reply.id).encode(), body)
    if answer.status == 200:
        usage = reply.usage or Tokens()
        line = _line(id, custom_id, response, b"null")
        prompt, output = usage.prompt_tokens or usage.input_tokens, usage.completion_tokens or usage.output_tokens
        return Record(line, None, prompt or 0, output or 0)
    kind, message = _explained(answer.status, reply.error)
    return Record(_line(id, custom_id, response, _error(kind, message, raw)), kind)


def refused(id: str, custom_id: str | None, code: str, message: str, raw: Raw) -> bytes:
    """The line for one that was not sent, or got no answer."""
    return _line(id, custom_id, b"null", _error(code, message, raw))


def _explained(status: int, error: Any) -> tuple[str, str]:
    """Kind and message of OpenAI's error object, or of anything else a server may put there."""
    error = error if isinstance(error, dict) else {"message": error}
    code = error.get("code")
    named = code if isinstance(code, str) and code else error.get("type")
    return f"{status} {named}" if named else str(status), str(error.get("message") or f"the service answered {status}")


def _error(code: str, message: str, raw: Raw) -> bytes:
    place = {"file": raw.file.name, "line": raw.number}
    return json.dumps({"code": code, "message": message, **place}, separators=(",", ":")).encode()


def _line(id: str, custom_id: str | None, response: bytes, error: bytes) -> bytes:
    names = b'{"id":"%b","custom_id":%b' % (id.encode(), json.dumps(custom_id).encode())
    return b'%b,"response":%b,"error":%b}\n' % (names, response, error)
