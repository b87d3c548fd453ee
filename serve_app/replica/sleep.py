"""A replica that sleeps: its engine has given its memory back, and takes it again in a moment.

It sleeps when it is told to and has nothing open, and wakes when it is told to or when a request comes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

SLEEP, WAKE = "/-/sleep", "/-/wake"
"""Routes of a replica's own server, POST, with its token."""

logger = logging.getLogger("ray.serve")


class SleepingEngine(Protocol):
    """An engine that can sleep."""

    async def sleep(self) -> None:
        """Give back what memory it can; called while no request is open."""
        ...

    async def wake(self) -> None:
        """Be as before."""
        ...


class SleepControl:
    """Puts one replica's engine to sleep, and wakes it."""

    def __init__(self, engine: SleepingEngine) -> None:
        self.resting = False
        """Whether the replica sleeps, or will once it has nothing open: it should be offered nothing."""
        self.failure: str | None = None
        """Why the engine could not be put to sleep or woken; it can serve no longer."""
        self._engine = engine
        self._asleep = False
        self._changing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def awake(self) -> bool:
        """Whether a request may go to the engine; else `wake` comes first, also while it falls asleep or wakes."""
        return not self.resting and not self._asleep

    def rest(self, in_flight: int) -> None:
        """Sleep, at once where nothing is open, else when `ended` says so."""
        self.resting = True
        self.ended(in_flight)

    def ended(self, in_flight: int) -> None:
        """A request has ended, and so many sequences are open."""
        if self.resting and not in_flight and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._sleep())

    async def wake(self) -> None:
        """Be awake, and stay so. Raises RuntimeError where the engine does not wake."""
        self.resting = False
        async with self._changing:
            if self._asleep:
                await self._do("wake")
                self._asleep = False

    async def _sleep(self) -> None:
        async with self._changing:
            if self.resting and not self._asleep:
                # From here on a request waits for the lock, and wakes it.
                self._asleep = True
                await self._do("sleep")

    async def _do(self, what: str) -> None:
        try:
            await (self._engine.sleep() if what == "sleep" else self._engine.wake())
        except Exception as error:
            self.failure = f"its engine did not {what}: {error!r}"
            logger.exception("the engine did not %s", what)
            raise RuntimeError(self.failure) from error
