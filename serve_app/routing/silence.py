"""Finds replicas that are alive and do not answer: frozen, or on a node that nothing comes from any more.

A connection to such a process stays open, and the next is accepted by the kernel, so that no error ever tells. What
tells is that nothing comes from it at all: no chunk of any answer, and no answer to a question that costs it nothing. A
replica whose engine is busy with a long prompt still answers that one. How long it may take follows from how long it
has lately been silent and come back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from serve_app.replica.fading import FadingMaximum

LOOK_S = 1.0
SUSPECT_S = 2.0
"""After so long without a word from a replica with open requests it is asked whether it is there."""
LEAST_S = 6.0
"""Without a word for less than this no replica counts as frozen: a busy machine has pauses."""
PAUSES = 4.0
"""Nor for less than so many of its longest lately survived silences,"""
MOST_S = 120.0
"""but for as long as this any is."""
HALVED_S = 600.0
"""A silence counts half after so long."""
FORGOTTEN_S = 300.0
"""A frozen replica that nobody has asked for anything for so long is no longer asked whether it is there."""

logger = logging.getLogger("ray.serve")


class Exchange(Protocol):
    """A request to a replica whose answer is not complete."""

    url: str
    heard_at: float
    """When something last came on its connection, by the event loop's clock; 0 before."""

    @property
    def waits_for_client(self) -> bool:
        """Whether more may have come that nobody reads yet."""
        ...

    def give_up(self, reason: str) -> None:
        """Break it off: whoever waits for it gets an error."""
        ...


class Sign(Enum):
    """What came of asking a replica whether it is there."""

    ANSWERS = "it answers"
    SILENT = "it does not answer"
    GONE = "nobody listens there"


@dataclass
class ReplicaLine:
    """What one replica's connections have in common."""

    url: str
    since: float
    """When the first of its open requests was sent."""
    open: set[Exchange] = field(default_factory=set)
    word_at: float = 0.0
    """When it was last heard of, its answers to our own questions included."""
    frozen: bool = False
    asking: asyncio.Task[None] | None = None
    survived: FadingMaximum = field(default_factory=lambda: FadingMaximum(HALVED_S))
    """Silences that it came back from, s."""

    def silence_s(self, now: float) -> float:
        self.word_at = max(self.word_at, *(one.heard_at for one in self.open), 0.0)
        return now - max(self.word_at, self.since)

    def bound_s(self, now: float) -> float:
        """How long it may be silent."""
        return min(MOST_S, max(LEAST_S, PAUSES * self.survived.at(now)))


class SilenceWatch:
    """Watches over the open requests of one process. All on its event loop."""

    def __init__(self, ask: Callable[[str], Awaitable[Sign]]) -> None:
        """`ask` asks the replica at a URL whether it is there, and takes a bounded time."""
        self._ask = ask
        self._lines: dict[str, ReplicaLine] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.on_frozen: Callable[[str], None] = lambda url: None
        """Told the URL of each replica that is found frozen, once."""

    def is_frozen(self, url: str) -> bool:
        return url in self._lines and self._lines[url].frozen

    def begun(self, exchange: Exchange) -> None:
        line = self._lines.get(exchange.url)
        if line is None:
            line = self._lines[exchange.url] = ReplicaLine(exchange.url, self._now())
        elif not line.open:
            line.since = self._now()
        line.open.add(exchange)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def ended(self, exchange: Exchange) -> None:
        if (line := self._lines.get(exchange.url)) is not None:
            line.word_at = max(line.word_at, exchange.heard_at)
            line.open.discard(exchange)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _look(self) -> None:
        """Once a second while there are open requests."""
        self._timer = None
        now, waiting = self._now(), False
        for line in self._lines.values():
            waiting = waiting or bool(line.open)
            expected = line.open and not any(one.waits_for_client for one in line.open)
            if expected and line.asking is None and line.silence_s(now) > SUSPECT_S:
                line.asking = asyncio.create_task(self._question(line))
        self._lines = {url: line for url, line in self._lines.items() if self._counts(line, now)}
        if waiting:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _counts(self, line: ReplicaLine, now: float) -> bool:
        """Whether anything is known of it that is worth keeping."""
        return bool(line.open or line.asking or now - max(line.word_at, line.since) < HALVED_S)

    async def _question(self, line: ReplicaLine) -> None:
        """Ask it again and again until it is heard of, is gone, or nobody wants it any more."""
        try:
            while line.open or (line.frozen and self._now() - line.since < FORGOTTEN_S):
                silent_s = line.silence_s(self._now())
                sign = await self._ask(line.url)
                now = self._now()
                if sign is Sign.ANSWERS or line.silence_s(now) < silent_s:
                    line.survived.add(silent_s, now)
                    line.word_at = now
                    break
                if sign is Sign.GONE:
                    break
                if not line.frozen and line.silence_s(now) >= line.bound_s(now):
                    self._found_frozen(line, line.silence_s(now))
                await asyncio.sleep(LOOK_S)
        finally:
            line.frozen, line.asking = False, None

    def _found_frozen(self, line: ReplicaLine, silent_s: float) -> None:
        line.frozen = True
        reason = f"nothing has come from the replica for {silent_s:.0f} s"
        logger.warning("%s: %s: %d requests go elsewhere", line.url, reason, len(line.open))
        for exchange in tuple(line.open):
            exchange.give_up(reason)
        self.on_frozen(line.url)
