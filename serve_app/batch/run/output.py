"""A line of a batch's output or error file, in OpenAI's batch format, written and read again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from serve_app.batch.run.client import NoResponse, ServiceResponse
from serve_app.batch.run.input import InputLine
from serve_app.http.json_bytes import UNREADABLE


class TokenCounts(msgspec.Struct):
    """The `usage` of a response: chat, completions and embeddings count in the first two fields, responses in the
    others."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def input(self) -> int:
        """Tokens of the request."""
        return self.prompt_tokens or self.input_tokens or 0

    @property
    def output(self) -> int:
        """Tokens that were generated."""
        return self.completion_tokens or self.output_tokens or 0


class _ResponseFields(msgspec.Struct):
    """What is read of a response's body."""

    id: str = ""
    usage: TokenCounts | None = None
    error: Any = None


class _WrittenResponse(msgspec.Struct):
    body: _ResponseFields


class _WrittenLine(msgspec.Struct):
    """What is read of a line of the output file."""

    response: _WrittenResponse


_fields = msgspec.json.Decoder(_ResponseFields)
_written = msgspec.json.Decoder(_WrittenLine)


@dataclass(frozen=True, slots=True)
class OutputLine:
    """A line to write, and what to count."""

    data: bytes
    """With its newline."""
    error: str | None
    """The kind of failure, for a line of the error file; None for one of the output file."""
    prompt_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class OutputTotals:
    """What a batch's output and error file hold."""

    completed: int = 0
    """Lines of the output file."""
    failed: int = 0
    """Lines of the error file."""
    prompt_tokens: int = 0
    output_tokens: int = 0


def answered(id: str, custom_id: str, response: ServiceResponse | NoResponse, line: InputLine) -> OutputLine:
    """What came of a line that was sent, in the end."""
    if isinstance(response, NoResponse):
        return refused(id, custom_id, "no_answer", str(response), line)
    try:
        fields, body = _fields.decode(response.body), response.body
        if b"\n" in body:
            body = msgspec.json.format(body, indent=-1)
    except UNREADABLE:
        fields, body = _ResponseFields(), json.dumps(response.body.decode(errors="replace")).encode()
        if response.status == 200:
            return refused(id, custom_id, "no_json", "the answer is not JSON", line)
    whole = b'{"status_code":%d,"request_id":%b,"body":%b}' % (response.status, json.dumps(fields.id).encode(), body)
    if response.status == 200:
        usage = fields.usage or TokenCounts()
        return OutputLine(_encoded(id, custom_id, whole, b"null"), None, usage.input, usage.output)
    kind, message = _explained(response.status, fields.error)
    return OutputLine(_encoded(id, custom_id, whole, _error(kind, message, line)), kind)


def refused(id: str, custom_id: str | None, code: str, message: str, line: InputLine) -> OutputLine:
    """What to write of a line that was not sent, or got no answer."""
    return OutputLine(_encoded(id, custom_id, b"null", _error(code, message, line)), code)


def _explained(status: int, error: Any) -> tuple[str, str]:
    """Kind and message of OpenAI's error object, or of anything else a server may put there."""
    error = error if isinstance(error, dict) else {"message": error}
    code = error.get("code")
    named = code if isinstance(code, str) and code else error.get("type")
    return f"{status} {named}" if named else str(status), str(error.get("message") or f"the service answered {status}")


def _error(code: str, message: str, line: InputLine) -> bytes:
    place = {"file": line.file.name, "line": line.number}
    return json.dumps({"code": code, "message": message, **place}, separators=(",", ":")).encode()


def _encoded(id: str, custom_id: str | None, response: bytes, error: bytes) -> bytes:
    names = b'{"id":"%b","custom_id":%b' % (id.encode(), json.dumps(custom_id).encode())
    return b'%b,"response":%b,"error":%b}\n' % (names, response, error)


def tally(output: Path, errors: Path) -> OutputTotals:
    """Lines of both files, and tokens of the answers. Blocks.

    The files are all that a batch remembers of what it has done, so they are what is counted.
    """
    completed = prompt = generated = 0
    for line in _whole_lines(output):
        completed += 1
        with contextlib.suppress(*UNREADABLE):
            usage = _written.decode(line).response.body.usage or TokenCounts()
            prompt += usage.input
            generated += usage.output
    return OutputTotals(completed, sum(1 for _ in _whole_lines(errors)), prompt, generated)


def _whole_lines(path: Path) -> Iterator[bytes]:
    """None where there is no such file."""
    if path.exists():
        with path.open("rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))
