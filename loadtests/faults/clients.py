"""Clients that are always there: streams held open, one after another, and an open loop of short requests."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import aiohttp

from loadtests.loadgen.sse import Stream

SILENT_S = 90.0
"""A client that hears nothing for so long gives up: it hangs."""
SHORT_TOKENS = 8
PAUSE_S = 0.5
"""After a stream that failed, before the next, and before a request is sent again: nobody hammers."""
MOST_AGAIN = 2
"""How often a request is sent again of which no answer has begun, as OpenAI's clients do."""


@dataclass(frozen=True, slots=True)
class Told:
    """One request and what came of it; times in seconds since the epoch."""

    streamed: bool
    began: float
    ended: float
    outcome: str
    """`whole`, `refused` (429, 503) or `lost`."""
    reason: str = ""
    """Why it was refused or lost."""
    sent_again: int = 0
    """How often its connection was closed before anything of an answer came, so that it was sent again."""
    gaps: tuple[tuple[float, float], ...] = ()
    """Of a stream, when each of its texts came that was waited for longer than a moment, and how long that was, s."""


@dataclass(frozen=True)
class LoadPlan:
    """What clients ask for."""

    model: str
    streams: int = 64
    tokens: int = 200
    """Of each stream."""
    rate: float = 4.0
    """Requests of the open loop, 1/s."""
    api_key: str = ""


class Clients:
    """A thread of clients between `with` and its end."""

    def __init__(self, url: str, plan: LoadPlan) -> None:
        self.told: list[Told] = []
        """Of requests that have ended."""
        self._url = url
        self._plan = plan
        self._headers = {"Authorization": f"Bearer {plan.api_key}"} if plan.api_key else {}
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._run()), daemon=True)
        self._open: dict[int, float] = {}
        """When each open stream was last heard of."""

    def __enter__(self) -> Clients:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(SILENT_S + 30)

    def longest_silence_s(self) -> float:
        """How long the open stream that was heard of least lately has been silent."""
        heard = list(self._open.values())
        return time.time() - min(heard) if heard else 0.0

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENT_S, sock_read=SILENT_S)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector, headers=self._headers) as http:
            holding = [asyncio.create_task(self._hold(http, number)) for number in range(self._plan.streams)]
            open_loop = asyncio.create_task(self._offer(http))
            await self._stop.wait()
            open_loop.cancel()
            for task in holding:
                task.cancel()
            await asyncio.gather(open_loop, *holding, return_exceptions=True)

    async def _hold(self, http: aiohttp.ClientSession, number: int) -> None:
        # Not all at once: streams of one length would end together for ever.
        await asyncio.sleep(number * 0.05)
        for turn in itertools.count():
            prompt = f"stream {number}, turn {turn}"
            told = await self._ask(http, {"prompt": prompt, "max_tokens": self._plan.tokens}, number)
            if told.outcome != "whole":
                await asyncio.sleep(PAUSE_S)

    async def _offer(self, http: aiohttp.ClientSession) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in itertools.count():
                tasks.create_task(self._ask(http, {"prompt": f"short {number}", "max_tokens": SHORT_TOKENS}))
                await asyncio.sleep(1 / self._plan.rate)

    async def _ask(self, http: aiohttp.ClientSession, asked: dict[str, Any], number: int | None = None) -> Told:
        """One request; a stream where `number` says which."""
        body = {"model": self._plan.model, "ignore_eos": True, "temperature": 0, **asked}
        body |= {"stream": True, "stream_options": {"include_usage": True}} if number is not None else {}
        began, gaps, again = time.time(), list[tuple[float, float]](), 0
        try:
            while True:
                try:
                    outcome, reason = await self._once(http, body, number, gaps)
                    break
                except NoAnswer as error:
                    outcome, reason = "lost", str(error)
                    if again == MOST_AGAIN:
                        break
                    again += 1
                    await asyncio.sleep(PAUSE_S)
        finally:
            self._open.pop(number if number is not None else -1, None)
        told = Told(number is not None, began, time.time(), outcome, reason, again, tuple(gaps))
        self.told.append(told)
        return told

    async def _once(
        self, http: aiohttp.ClientSession, body: dict[str, Any], number: int | None, gaps: list[tuple[float, float]]
    ) -> tuple[str, str]:
        """Its outcome and why; raises NoAnswer where its connection was closed before an answer began."""
        stream, status = Stream(), 0

        def heard() -> None:
            if number is not None:
                self._open[number] = time.time()

        heard()
        try:
            async with http.post(f"{self._url}/v1/completions", json=body) as answer:
                status = answer.status
                if number is None or status != 200:
                    await answer.read()
                    return _of_status(status)
                await _read(answer.content, stream, gaps, heard)
                return _of_stream(stream, int(body["max_tokens"]))
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error, TimeoutError):
                return "lost", f"silent for {SILENT_S:g} s"
            reason = "no connection" if isinstance(error, aiohttp.ClientConnectorError) else "the connection was closed"
            if not status:
                raise NoAnswer(reason) from error
            return "lost", reason


class NoAnswer(Exception):
    """A connection was closed, or could not be had, before an answer began."""


async def _read(
    content: aiohttp.StreamReader, stream: Stream, gaps: list[tuple[float, float]], heard: Callable[[], None]
) -> None:
    known = 0
    async for line in content:
        stream.line(line, time.monotonic())
        heard()
        if len(stream.gaps) > known:
            known = len(stream.gaps)
            gaps.append((time.time(), stream.gaps[-1]))


def _of_status(status: int) -> tuple[str, str]:
    if status == 200:
        return "whole", ""
    return ("refused" if status in (429, 503) else "lost"), f"status {status}"


def _of_stream(stream: Stream, tokens: int) -> tuple[str, str]:
    """Whole are all tokens that were asked for, counted once, with one end."""
    if broken := stream.broken:
        return "lost", broken
    counted = stream.usage[1] if stream.usage else stream.texts
    return ("whole", "") if counted == tokens else ("lost", f"{counted} tokens of {tokens}")
