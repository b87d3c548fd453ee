"""A process's log as JSON, an object a line: `logging: {format: json}`.

Lines of `ray.serve`, which this service and Ray Serve write in its processes, of vLLM, its engine process included, and
of whatever has no handler of its own. What others print, as C++ does, stays as it is.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from serve_app.logs.context import OfRequest
from serve_app.logs.names import ProcessName

WHO = "SERVE_APP_LOG_WHO"
"""A variable for this process and those it starts: what each line says of its writer, as JSON."""
VLLM_CONFIG = Path(__file__).parent / "for_vllm.json"
"""For `logging.config.dictConfig`, as vLLM reads it, in its engine process too (VLLM_LOGGING_CONFIG_PATH)."""
BEGINNING = '{"time": "'
"""Of each line."""
_OF_REQUEST = ("request_id", "trace_id")


class JsonLines(logging.Formatter):
    """A record as JSON."""

    def __init__(self) -> None:
        super().__init__()
        self._who: dict[str, str] = json.loads(os.environ.get(WHO, "{}"))

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": at, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        line |= self._who
        line |= {name: value for name in _OF_REQUEST if (value := getattr(record, name, ""))}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def install(process: ProcessName) -> None:
    """From now on, in this process and in those it starts. To be called before vLLM is imported."""
    os.environ[WHO] = json.dumps({"application": process.application, "part": process.part, "replica": process.id})
    os.environ.setdefault("VLLM_LOGGING_CONFIG_PATH", str(VLLM_CONFIG))
    everybody = logging.getLogger()
    if not everybody.handlers:
        everybody.addHandler(logging.StreamHandler())
    for handler in (*everybody.handlers, *logging.getLogger("ray.serve").handlers):
        handler.addFilter(OfRequest())
        for one in _writing(handler):
            one.setFormatter(JsonLines())


def _writing(handler: logging.Handler) -> Iterator[logging.Handler]:
    """A handler, and the one that it keeps records for."""
    yield handler
    if isinstance(handler, logging.handlers.MemoryHandler) and handler.target is not None:
        yield handler.target


def unfolded(line: str) -> list[str]:
    """A line as it is, or, where `JsonLines` wrote it, the lines that it would be as text."""
    if not line.startswith(BEGINNING):
        return [line]
    try:
        record = json.loads(line)
        head = f"{record['level']} {record['time'][:10]} {record['time'][11:-1]} {record['part']} -- "
        return [*(head + record["message"]).splitlines(), *record.get("exception", "").splitlines()]
    except (ValueError, KeyError, TypeError):
        return [line]
