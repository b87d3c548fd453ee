"""Requests that were in a replica as it died, one of which may be why.

All that a dying replica had goes elsewhere together, and may meet there again: what kills replicas would take the
others along once more, and after two deaths nobody could say which of them it was. So a request is held to be the cause
only where no other suspect of this process was in the replica with it. Of several that have seen two deaths each gets a
turn, for a while the only one of them that begins anywhere; it is the cause where its replica dies in its turn.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

TURN_S = 1.0
"""How long others wait for one that has its turn: what kills an engine does so in the first steps it takes part in."""
REMEMBERED_S = 10.0
"""How long it is known who was in a dead replica: until each of them has been told."""


class Stay:
    """Of one request in one replica."""

    died = False
    """Whether the replica died in the course of it; said by who sees it."""
    alone = False
    """Then: whether no other suspect was there."""


class Suspects:
    """Those of one model, in one process."""

    def __init__(self) -> None:
        self._in: Counter[str] = Counter()
        """How many are in each replica, by its id."""
        self._free = asyncio.Lock()

    @contextmanager
    def within(self, replica: str, *, suspect: bool) -> Iterator[Stay]:
        """While a request is in a replica; `suspect` is whether one has died with it before."""
        stay = Stay()
        self._in[replica] += suspect
        try:
            yield stay
        finally:
            if stay.died:
                stay.alone = self._in[replica] <= 1
                asyncio.get_running_loop().call_later(REMEMBERED_S, self._in.pop, replica, None)
            else:
                self._in[replica] -= suspect
                if not self._in[replica]:
                    del self._in[replica]

    async def turn(self) -> SuspectTurn:
        """Waits until no other has its turn. To be ended."""
        await self._free.acquire()
        return SuspectTurn(self._free)


class SuspectTurn:
    """Of one suspect."""

    def __init__(self, free: asyncio.Lock) -> None:
        self._free = free
        self._timer: asyncio.TimerHandle | None = None
        self.lasts = True

    def begin(self) -> None:
        """It has a replica now, and ends after TURN_S."""
        self._timer = asyncio.get_running_loop().call_later(TURN_S, self.end)

    def end(self) -> None:
        """Nothing happens the second time."""
        if self._timer is not None:
            self._timer.cancel()
        if self.lasts:
            self.lasts = False
            self._free.release()
