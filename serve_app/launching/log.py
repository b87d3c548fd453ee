"""The service's log: what in it a person at the terminal should see, and why a deployment failed."""

from __future__ import annotations

import math
import re
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from pathlib import Path

from serve_app.compat.serve_log import GIVEN_UP, REPLICA_FAILED, REPLICA_WAITS
from serve_app.logs.json_lines import unfolded

KEPT_LINES = 2000
REPEAT_AFTER_S = 60.0
REASON_LINES = 12
ENDING_S = 90.0
"""What ends a running service is written within this long before: Ray's processes wait 60 s for a GCS that is lost."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_SOURCE = re.compile(r"^(?:\([^()]*\bpid=\d+[^()]*\) ?|\(raylet\) )+")
_RECORD = re.compile(
    r"^(?:\d{4}-\d\d-\d\d [\d:,.]+\s+)?(?P<level>DEBUG|INFO|SUCC|WARNING|ERROR|CRITICAL)\b:?"
    r"(?: (?:\d{4}-)?\d\d-\d\d [\d:,.]+)?(?: \[[^\]]+\]| [\w. -]+? --)?(?P<rest>.*)$"
)
_EXCEPTION = re.compile(
    r"^(?!ray\.exceptions\.RayTaskError|IntentionalSystemExit)"
    r"(?:\w+\.)*\w*(?:Error|Exception|Exit|Interrupt)\b: (?!Traceback)"
)
_PERMANENT = re.compile(r"\bPermanentStartError\b: (.+)")
_VARYING = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\d+")
"""Of an error's text, what differs from one replica to the next."""
_REPLICA = re.compile(r"\bid='\w+'")
_NATIVE = re.compile(r"^\[\d{4}-\d\d-\d\d [\d:,.]+ [ECF] \d+ \d+\](?: \(\w+\))? [\w./]+:\d+: +(?P<rest>.*)$")
"""An error of Ray's C++ core, which ends the process without an exception."""


class ServiceLog:
    """Follows a file as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recent: deque[str] = deque(maxlen=KEPT_LINES)
        self._read_at: deque[float] = deque(maxlen=KEPT_LINES)
        self.failed = False
        """Serve gave up on a deployment."""
        self.failures = Failures()
        self._read_to = 0
        self._rest = b""
        self._told: dict[str, float] = {}

    def news(self) -> list[str]:
        """New complete lines, without colours and without the name of the process that wrote them."""
        with self.path.open("rb") as file:
            file.seek(self._read_to)
            data = self._rest + file.read()
            self._read_to = file.tell()
        *complete, self._rest = data.split(b"\n")
        lines = [text for line in complete for text in unfolded(plain(line.decode(errors="replace")))]
        self.recent.extend(lines)
        self._read_at.extend([time.monotonic()] * len(lines))
        self.failed = self.failed or any(GIVEN_UP.search(line) for line in lines)
        self.failures.read(lines)
        return lines

    def fresh(self, texts: Iterable[str]) -> list[str]:
        """Those not told in the last minute, of whichever replica."""
        now = time.monotonic()
        news = []
        for text in texts:
            key = _REPLICA.sub("", text)
            if now - self._told.get(key, -REPEAT_AFTER_S) >= REPEAT_AFTER_S:
                self._told[key] = now
                news.append(text)
        return news

    def reason(self, within_s: float = math.inf) -> str:
        """The last error in what was read of the log in the last `within_s` seconds, with the lines it runs on to."""
        oldest = time.monotonic() - within_s
        return reason([line for line, at in zip(self.recent, self._read_at, strict=True) if at >= oldest])


class Failures:
    """Replicas that failed their start, and with which errors."""

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, str]] = Counter()
        self._texts: dict[tuple[str, str], str] = {}
        self._deployment = ""
        self._lines: list[str] = []

    def read(self, lines: list[str]) -> None:
        """New lines of the log. An error is complete when the next begins, or when nothing more came."""
        for line in lines:
            if failed := REPLICA_FAILED.search(line):
                self._complete()
                self._deployment = failed[1]
            if self._deployment:
                self._lines.append(line)
        if not lines or len(self._lines) > KEPT_LINES:
            self._complete()

    def repeated(self, replicas: Mapping[str, int]) -> str | None:
        """Why a deployment cannot start: an error that will not pass, or one with which it failed more often than it
        is to have replicas: one of them failed twice."""
        for text in self._texts.values():
            if lasting := _PERMANENT.search(text):
                return lasting[1]
        for (deployment, error), count in self._seen.items():
            if count > replicas.get(deployment, 1):
                return f"{deployment} failed its start {count} times with\n{self._texts[deployment, error]}"
        return None

    def _complete(self) -> None:
        if self._lines:
            text = reason(self._lines)
            key = self._deployment, _VARYING.sub("", text)
            self._seen[key] += 1
            self._texts[key] = text
        self._deployment, self._lines = "", []


def reason(lines: list[str]) -> str:
    """The last exception, or error of Ray's core, in lines of a log, with those it runs on to; else their end."""
    for start in range(len(lines) - 1, -1, -1):
        if native := _NATIVE.match(lines[start]):
            return native["rest"]
        if _EXCEPTION.match(_text(lines[start])):
            return "\n".join(_message(lines[start:]))
    return "\n".join(lines[-REASON_LINES:]) or "its log says nothing of it"


def plain(line: str) -> str:
    """Without colours, and without the names of the processes that Ray and vLLM write in front."""
    return _SOURCE.sub("", _COLOUR.sub("", line)).rstrip()


def important(line: str) -> str | None:
    """What to show of a plain line: an error's or an exception's text; None for all the rest."""
    text = _text(line)
    record = _RECORD.match(line)
    urgent = record is not None and record["level"] in ("ERROR", "CRITICAL")
    if _EXCEPTION.match(text) or REPLICA_WAITS.search(text):
        return text
    if not urgent or not text or text.startswith((" ", "Traceback ", "^", "~")):
        return None
    return text


def _text(line: str) -> str:
    """A line without level and time."""
    record = _RECORD.match(line)
    return record["rest"].removeprefix(" ") if record else line


def _message(lines: list[str]) -> list[str]:
    """An exception's own lines, up to whatever is written next."""
    told = [_text(lines[0])]
    for line in lines[1:REASON_LINES]:
        if not line or (_RECORD.match(line) and not _text(line).startswith(" ")) or line.startswith("Traceback"):
            break
        told.append(_text(line))
    return told
