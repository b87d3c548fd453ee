"""Asks many servers for their parts of /metrics at once, and waits for none that does not answer.

A page of a hundred replicas must not be late because one of them is frozen. Who has not answered within WAIT_S is
shown by its last answer, and is not waited for again until the next has come: so who is slow is one scrape behind, and
who is dead holds up one scrape at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp

from serve_app.replica.ask import ask
from serve_app.replica.protocol import ReplicaInfo

WAIT_S = 1.0
KEPT_S = 90.0
"""How long an answer is shown while the next is late; above the time between two scrapes."""


class Part(NamedTuple):
    """A server's part of the page."""

    text: bytes
    fresh: bool
    """Whether it is an answer to this scrape, and not one that was kept."""


class Scrapes:
    """Of one set of servers, known by their ids."""

    def __init__(self, session: aiohttp.ClientSession, path: str) -> None:
        """`path` is the page that servers are asked for; their id is appended to it."""
        self._session = session
        self._path = path
        self._asked: dict[str, asyncio.Task[None]] = {}
        self._late: set[str] = set()
        self._answers: dict[str, tuple[float, bytes]] = {}
        """When each server's last answer came, and the answer."""

    async def collect(self, servers: Mapping[str, ReplicaInfo]) -> dict[str, Part | None]:
        """Each server's part; None of one that has not answered lately, or refuses."""
        began = time.monotonic()
        for id, server in servers.items():
            if id not in self._asked:
                self._asked[id] = asyncio.create_task(self._ask(id, server))
        waited_for = [self._asked[id] for id in servers if id not in self._late]
        if waited_for:
            await asyncio.wait(waited_for, timeout=WAIT_S)
        self._late = {id for id in servers if id in self._asked}
        self._answers = {id: answer for id, answer in self._answers.items() if id in servers}
        return {id: self._part(id, began) for id in servers}

    def _part(self, id: str, began: float) -> Part | None:
        at, text = self._answers.get(id, (0.0, b""))
        if time.monotonic() - at > KEPT_S or not text:
            return None
        return Part(text, fresh=at >= began)

    async def _ask(self, id: str, server: ReplicaInfo) -> None:
        try:
            text = await ask(self._session, server, self._path + id)
        finally:
            del self._asked[id]
        if text is None:
            self._answers.pop(id, None)
        else:
            self._answers[id] = time.monotonic(), text
            self._late.discard(id)
