"""One request over a connection of its own, as bytes: what no HTTP library would send is sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httptools

LONG_S = 60.0
"""Of a stream that goes on: `max_tokens` may have been taken away."""


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    """0 when nothing came that is HTTP."""
    content_type: str = ""
    body: bytes = b""
    whole: bool = False
    trouble: str = ""
    """What went wrong with the connection."""
    _headers: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def error(self) -> Any:
        """The error in it, in OpenAI's or Anthropic's schema; None where it has none."""
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(self.body)
            return found.get("error") if isinstance(found, dict) else None
        return None


class _Reader:
    """httptools' callbacks."""

    def __init__(self, answer: Answer, bodiless: bool) -> None:
        self._answer, self._bodiless = answer, bodiless
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._answer.status = self.parser.get_status_code()
        self._answer.content_type = self._answer._headers.get(b"content-type", b"").decode("latin-1")
        self._answer.whole = self._bodiless and self._answer.status >= 200

    def on_body(self, data: bytes) -> None:
        self._answer.body += data

    def on_message_complete(self) -> None:
        self._answer.whole = self._answer.status >= 200


async def send(url: str, data: bytes, timeout_s: float) -> Answer:
    """The answer, as long as it does not stop for that long; of one that goes on and on, its first LONG_S."""
    answer, parts = Answer(), urlsplit(url)
    reader = _Reader(answer, bodiless=data.startswith(b"HEAD "))
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s) as patience:
            loop = asyncio.get_running_loop()
            enough = loop.time() + LONG_S
            source, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**20)
            writing = asyncio.ensure_future(_write(writer, data))
            try:
                while not answer.whole and (more := await source.read(2**16)):
                    reader.parser.feed_data(more)
                    patience.reschedule(loop.time() + timeout_s)
                    if loop.time() > enough:
                        answer.whole = True
            finally:
                writing.cancel()
        answer.whole = answer.whole or bool(answer.status and b"content-length" not in answer._headers)
        if not answer.whole:
            answer.trouble = "the connection closed before the answer's end"
    except TimeoutError:
        answer.trouble = f"nothing came for {timeout_s:g} s"
    except (OSError, httptools.HttpParserError) as error:
        answer.trouble = "" if answer.whole else repr(error)
    finally:
        if writer is not None:
            writer.transport.abort()
    return answer


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    """A server that has answered need not read the rest."""
    with contextlib.suppress(OSError):
        writer.write(data)
        await writer.drain()
