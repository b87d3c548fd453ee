"""The HTTP client of the load test: one connection pool a process, streams read as they come, under gevent."""

from __future__ import annotations

import json
from collections.abc import Callable
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import gevent
from geventhttpclient.client import HTTPClient
from geventhttpclient.response import HTTPParseError

from loadtests.loadgen.scenarios import ScenarioRequest
from loadtests.loadgen.sse import EMPTY, MALFORMED, TRUNCATED, Stream, decode
from loadtests.results.record import Outcome, Record

PATH = "/v1/chat/completions"
CONNECTIONS = 20_000
"""More than are ever open: the client must not queue."""
BLOCK_BYTES = 65536
CUT_OFF = "cut off by the end of the test"
FULL = frozenset({"overloaded", "queue_full", "model_not_ready"})
"""Codes of a 503 that says `later`, not `broken`."""


class LoadClient:
    """Sends requests to one service. `sink` is given the record of each, and the waits between its texts, s."""

    def __init__(self, url: str, api_key: str, timeout_s: float, sink: Callable[[Record, list[float]], None]) -> None:
        self._sink = sink
        self._http = HTTPClient.from_url(
            url,
            concurrency=CONNECTIONS,
            block_size=BLOCK_BYTES,
            connection_timeout=timeout_s,
            network_timeout=timeout_s,
        )
        self._path = urlsplit(url).path.rstrip("/").removesuffix("/v1") + PATH
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def send(self, request: ScenarioRequest, scheduled: float, began: float) -> None:
        """Send it and read all of its answer; the sink is told whatever happens, even when this greenlet is killed.

        `scheduled` is when it was due and `began` when the test began, both as perf_counter has them.
        """
        exchange = _OpenRequest(request)
        sent = perf_counter()
        try:
            exchange.run(self._http, self._path, self._headers)
        except (OSError, HTTPParseError, gevent.Timeout) as error:
            exchange.failed(_kind(error))
        except gevent.GreenletExit:
            exchange.failed(CUT_OFF)
            raise
        finally:
            self._sink(self._record(exchange, sent, scheduled, began), exchange.stream.gaps)

    def _record(self, exchange: _OpenRequest, sent: float, scheduled: float, began: float) -> Record:
        latency = perf_counter() - sent
        request, stream = exchange.request, exchange.stream
        if request.on_text:
            request.on_text(stream.text if exchange.outcome == "ok" else None)
        return Record(
            scheduled_s=scheduled - began,
            sent_s=sent - began,
            ttft_s=None if stream.first_s is None else stream.first_s - sent,
            latency_s=latency,
            prompt_tokens=exchange.tokens[0],
            output_tokens=exchange.tokens[1],
            outcome=exchange.outcome,
            detail=exchange.detail,
            scenario=request.scenario,
            model=request.model,
            worst_gap_s=max(stream.gaps, default=None),
        )

    def close(self) -> None:
        self._http.close()


class _OpenRequest:
    """A request that was sent, and what its answer has told so far."""

    def __init__(self, request: ScenarioRequest) -> None:
        self.request = request
        self.stream = Stream(keep_text=request.on_text is not None)
        self.outcome: Outcome = "ok"
        self.detail = ""
        self._whole_usage: tuple[int, int] | None = None

    @property
    def tokens(self) -> tuple[int, int]:
        """Of the prompt and of the answer as the server counts; without that, texts of the stream."""
        return self.stream.usage or self._whole_usage or (0, self.stream.texts)

    def run(self, http: HTTPClient, path: str, headers: dict[str, str]) -> None:
        request = self.request
        if request.session:
            headers = {**headers, "x-session-id": request.session}
        response = http.request("POST", path, body=request.body, headers=headers)
        try:
            if response.status_code != 200:
                self._refusal(response.status_code, response.read())
            elif request.stream:
                self._read(response.readline, response.read)
            else:
                self._read_whole(response.read())
        finally:
            response.release()

    def failed(self, detail: str) -> None:
        self.outcome, self.detail = "failed", detail

    def _read(self, readline: Callable[[bytes], bytes], read: Callable[[], bytes]) -> None:
        take = self.stream.line
        while not self.stream.malformed and (line := readline(b"\n")):
            take(line, perf_counter())
        if not self.stream.malformed:
            take(read(), perf_counter())  # a last line without its end
        if broken := self.stream.broken:
            self.failed(broken)

    def _read_whole(self, body: bytes) -> None:
        answer = decode(body)
        if answer is None or answer.usage is None:
            self.failed(f"{MALFORMED}: no answer with its usage")
            return
        self._whole_usage = answer.usage.prompt_tokens, answer.usage.completion_tokens
        choices = answer.choices or []
        if not all(choice.finish_reason for choice in choices):
            self.failed(f"{TRUNCATED}: no finish_reason")
        elif answer.usage.completion_tokens < 1 or not any(choice.has_text for choice in choices):
            self.failed(EMPTY)

    def _refusal(self, status: int, body: bytes) -> None:
        code = _error_code(body)
        self.detail = f"{status} {code}".strip()
        self.outcome = "refused" if status == 429 or (status == 503 and code in FULL) else "failed"


def _error_code(body: bytes) -> str:
    try:
        error: Any = json.loads(body)["error"]
        return str(error.get("code") or error.get("type") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def _kind(error: BaseException) -> str:
    if isinstance(error, TimeoutError | gevent.Timeout):
        return "timeout"
    if isinstance(error, HTTPParseError):
        return f"{TRUNCATED}: the connection closed before the answer's end"
    return type(error).__name__
