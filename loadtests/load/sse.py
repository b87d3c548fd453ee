"""What a stream of completion chunks says, read with as little work as will do.

A load client sees tens of thousands of chunks a second, so none is decoded but the last, which has the usage. Within a
JSON string a quote is escaped, so a key with its quotes is found only where it is one.
"""

from __future__ import annotations

import json
import re

TEXT = re.compile(rb'"(?:content|text|reasoning|reasoning_content|arguments)":\s*"[^"]')
"""A chunk that carries text: a key of a delta whose text is not empty."""
FINISH = re.compile(rb'"finish_reason":\s*"(\w+)"')
TOGETHER_S = 0.0001
"""Texts read within this of each other came in one packet: it is the time of reading a line, not of waiting, s."""
ERROR = re.compile(rb'^data:\s*\{\s*"error"\s*:')


class Stream:
    """One streamed answer, line by line."""

    __slots__ = ("_kept", "done", "error", "finish_reason", "first_s", "gaps", "last_s", "texts", "usage")

    def __init__(self, keep_text: bool = False) -> None:
        self.first_s: float | None = None
        """When the first text came."""
        self.last_s = 0.0
        """When the latest text came."""
        self.texts = 0
        """Chunks that had text."""
        self.gaps: list[float] = []
        """Waits between texts, s; texts that came together count as one."""
        self.usage: tuple[int, int] | None = None
        """Prompt and output tokens, once the server has told."""
        self.finish_reason: str | None = None
        self.error: str | None = None
        """What the server said went wrong after it had begun to answer."""
        self.done = False
        """Whether [DONE] came."""
        self._kept: list[bytes] | None = [] if keep_text else None

    def line(self, line: bytes, now_s: float) -> None:
        """Take a line with its end."""
        if not line.startswith(b"data:"):
            return
        if TEXT.search(line):
            self.texts += 1
            if self.first_s is None:
                self.first_s = now_s
            elif now_s - self.last_s > TOGETHER_S:
                self.gaps.append(now_s - self.last_s)
            self.last_s = now_s
            if self._kept is not None:
                self._kept.append(line)
        if b'"finish_reason":' in line and (found := FINISH.search(line)):
            self.finish_reason = found[1].decode()
        if b'"usage":' in line:
            usage = json.loads(line[5:]).get("usage")
            if usage:
                self.usage = usage["prompt_tokens"], usage.get("completion_tokens", 0)
        elif line.startswith((b"data: [DONE]", b"data:[DONE]")):
            self.done = True
        elif ERROR.match(line):
            self.error = _what(line[5:])

    @property
    def text(self) -> str:
        """The answer's text, if it was to be kept."""
        chunks = (json.loads(line[5:]) for line in self._kept or ())
        return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])

    @property
    def broken(self) -> str | None:
        """Why this is no whole answer, if it is none."""
        if self.error is not None:
            return f"error in stream: {self.error}"
        if self.finish_reason is None:
            return "no finish_reason"
        return None if self.done else "no [DONE]"


def _what(data: bytes) -> str:
    try:
        error = json.loads(data)["error"]
    except (ValueError, KeyError, TypeError):
        return "unreadable"
    return str((error.get("code") or error.get("type")) if isinstance(error, dict) else error)
