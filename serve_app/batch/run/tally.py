"""What a batch's output holds: the outputs are a batch's only memory, so they are what is counted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from serve_app.batch.api.objects import Counts, Usage
from serve_app.batch.run.record import Tokens
from serve_app.http.json_bytes import UNREADABLE


class _Body(msgspec.Struct):
    usage: Tokens | None = None


class _Response(msgspec.Struct):
    body: _Body


class _Line(msgspec.Struct):
    response: _Response


_line = msgspec.json.Decoder(_Line)


def tally(output: Path, errors: Path) -> tuple[Counts, Usage]:
    """Lines of both files, and tokens of the answers. Blocks."""
    completed = prompt = generated = 0
    for line in _lines(output):
        completed += 1
        with contextlib.suppress(*UNREADABLE):
            tokens = _line.decode(line).response.body.usage or Tokens()
            prompt += tokens.prompt_tokens or tokens.input_tokens or 0
            generated += tokens.completion_tokens or tokens.output_tokens or 0
    failed = sum(1 for _ in _lines(errors))
    usage = Usage(input_tokens=prompt, output_tokens=generated, total_tokens=prompt + generated)
    return Counts(completed + failed, completed, failed), usage


def _lines(path: Path) -> Iterator[bytes]:
    """The whole lines of a file that may be missing."""
    if path.exists():
        with path.open("rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))
