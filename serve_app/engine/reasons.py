"""What was wrong with a request, in words of the API: no Python types, no classes of vLLM's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from vllm.entrypoints.serve.exception_handling.handlers.validation import clean_loc_for_param
from vllm.exceptions import VLLMError

from serve_app.http.errors import ApiError, shortened

MOST_PROBLEMS = 4
MOST_READ = 100
"""Of pydantic's problems, of which a field of many elements and alternatives has hundreds of thousands."""
MOST_INPUT_CHARACTERS = 60

_NAMES = {
    "dict": "an object",
    "list": "an array",
    "str": "a string",
    "bool": "a boolean",
    "int": "a number",
    "float": "a number",
    "NoneType": "null",
}
_DIGITS = re.compile(r"Exceeds the limit \((\d+) digits\)")
_PYTHON_TYPE = re.compile(r"^(?:object of type )?'(\w+)' (?:object|has no len)|^argument of type '(\w+)'")
_CLASS = re.compile(r"\.?\b[A-Z]\w*[a-z]\w*\b")
"""A Python class, which pydantic writes into the place of a field that may be one of several."""
_INSTANCE = re.compile(r" or (?:an )?instance of \w+| or object to extract fields from")
_KINDS = {r"\bdictionary\b": "object", r"\b(list|tuple)\b": "array"}


def reason(error: Exception) -> str:
    """Of a request that could not be read, checked or rendered."""
    if isinstance(error, ValidationError):
        return validation_error(error.errors()).message
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeEncodeError):
        found = ascii(error.object[error.start : error.end])[1:-1]
        return f"a text holds {found}, half of a surrogate pair, which is no character"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}"
    if isinstance(error, VLLMError):
        return str(error.args[0]) if error.args else str(error)
    text = str(error)
    if digits := _DIGITS.search(text):
        return f"a number has more than {digits[1]} digits"
    if isinstance(error, OverflowError):
        return "a number is out of range"
    if name := wrong_type(error):
        return f"{_NAMES.get(name, 'a value')} stands where something else belongs"
    if isinstance(error, KeyError):
        return f"a part of the request lacks {text}"
    return text or "the request cannot be understood"


def wrong_type(error: Exception) -> str | None:
    """The Python type of a value that stood where another was expected."""
    if isinstance(error, AttributeError):
        return type(error.obj).__name__
    found = _PYTHON_TYPE.search(str(error)) if isinstance(error, TypeError) else None
    return found and (found[1] or found[2])


def validation_error(problems: Sequence[Any]) -> ApiError:
    """Pydantic's list of problems as one answer; of an unsupported media type vLLM says a string."""
    if problems and isinstance(problems[0], str):
        return ApiError(415, "; ".join(problems), code="content_type")
    if problems and problems[0]["type"] == "json_invalid":
        found = problems[0]
        message = f"the request body is not valid JSON: {found['ctx']['error']} at character {found['loc'][-1]}"
        return ApiError(400, message, code="invalid_json")
    read = problems[:MOST_READ]
    told = list(dict.fromkeys((_field(one["loc"]), _what(one)) for one in read))
    lines = [f"{field}: {what}" if field else what for field, what in told[:MOST_PROBLEMS]]
    if len(told) > MOST_PROBLEMS:
        lines.append(f"and {len(told) - MOST_PROBLEMS + len(problems) - len(read)} more")
    param = next((name for one in read if (name := _parameter(one))), told[0][0] if told else None)
    return ApiError(400, "; ".join(lines) or "the request is not valid", param or None, "invalid_value")


def _field(place: tuple[Any, ...]) -> str:
    """`messages.0.content` for pydantic's place in the body."""
    if place in ((), ("body",)):
        return ""
    return _CLASS.sub("", clean_loc_for_param(place).removeprefix("body.")).strip(".")


def _parameter(problem: dict[str, Any]) -> str | None:
    return getattr(problem.get("ctx", {}).get("error"), "parameter", None)


def _what(problem: dict[str, Any]) -> str:
    error = problem.get("ctx", {}).get("error")
    if isinstance(error, Exception):
        return reason(error)
    if problem["type"] == "missing":
        return "is required"
    text = _INSTANCE.sub("", problem["msg"])
    for kind, name in _KINDS.items():
        text = re.sub(kind, name, text)
    value = problem.get("input")
    plain = value is None or isinstance(value, (bool, int, float, str))
    return f"{text} (got {_quoted(value)})" if plain else text


def _quoted(value: Any) -> str:
    try:
        text = ascii(value)
    except ValueError:
        return "a number of thousands of digits"
    return shortened({"None": "null", "True": "true", "False": "false"}.get(text, text), MOST_INPUT_CHARACTERS)
