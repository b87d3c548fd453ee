"""Traces of real traffic: when each request came and how long it was.

Read are JSON lines and CSV files, by the names their columns have here, in Azure's public LLM traces
(https://github.com/Azure/AzurePublicDataset: TIMESTAMP, ContextTokens, GeneratedTokens), in Mooncake's
(https://github.com/kvcache-ai/Mooncake: timestamp in ms, input_length, output_length), and in load tests' records.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

AT = {"at_s": 1.0, "scheduled_s": 1.0, "TIMESTAMP": 1.0, "timestamp": 0.001}
"""Names of the time a request came, and its unit in s."""
PROMPT = ("prompt_tokens", "ContextTokens", "input_length")
OUTPUT = ("output_tokens", "GeneratedTokens", "output_length")


@dataclass(frozen=True, slots=True)
class TracedRequest:
    """One request of a trace."""

    at_s: float
    """Seconds after the trace's first request."""
    prompt_tokens: int
    output_tokens: int


@lru_cache(maxsize=4)
def read(path: Path) -> tuple[TracedRequest, ...]:
    """In order of time; raises ValueError with the line that cannot be read, OSError when the file cannot."""
    found = []
    for line, row in _rows(path):
        try:
            found.append(TracedRequest(_time(row), max(1, int(_first(row, PROMPT))), max(1, int(_first(row, OUTPUT)))))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {line}: {error}") from error
    if not found:
        raise ValueError(f"{path} holds no request")
    found.sort(key=lambda one: one.at_s)
    first = found[0].at_s
    return tuple(TracedRequest(one.at_s - first, one.prompt_tokens, one.output_tokens) for one in found)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open() as lines:
        if path.suffix == ".csv":
            yield from enumerate(csv.DictReader(lines), 2)
            return
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise ValueError(f"{path}, line {number}: {error}") from error
                yield number, row


def _time(row: dict[str, Any]) -> float:
    name = next((name for name in AT if name in row), None)
    if name is None:
        raise ValueError(f"no time of arrival: one of {', '.join(AT)}")
    value = row[name]
    try:
        return float(value) * AT[name]
    except ValueError:
        return datetime.fromisoformat(value[:26]).timestamp()


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    name = next((name for name in names if row.get(name) is not None), None)
    if name is None:
        raise ValueError(f"no length: one of {', '.join(names)}")
    return row[name]
