"""The adapters that an engine has in memory, of which there is room for so many.

An adapter is loaded before the first request that is for it goes to the engine, and stays while one does. Where there
is no room, the one used longest ago leaves: an idle one at once; where all are in use, it takes no more requests, and
leaves with its last one. So nobody waits for longer than the answers of one adapter take, however busy the others are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Protocol

from serve_app.adapters.adapter import Adapter
from serve_app.engine.adapters.counts import AdapterCounts
from serve_app.http.errors import ApiError

REMEMBERED_S = 10.0
"""How long an adapter that could not be loaded is not tried again."""

logger = logging.getLogger("ray.serve")


class AdapterUnusable(Exception):
    """The adapter cannot be loaded; the text says why."""


class AdapterLoader(Protocol):
    """What an engine does to have an adapter and to have it no more."""

    async def load(self, adapter: Adapter) -> None:
        """Make it ready for requests. Raises AdapterUnusable."""
        ...

    async def unload(self, adapter: Adapter) -> None:
        """Give its memory back; no request is for it."""
        ...


class _Seat:
    """One adapter's place in memory."""

    def __init__(self, ready: asyncio.Task[None]) -> None:
        self.ready = ready
        self.open = 0
        """Requests that are for it."""
        self.leaving = False
        self.idle = asyncio.Event()
        self.idle.set()


class LoadedAdapters:
    """The adapters of one engine."""

    def __init__(self, most: int, loader: AdapterLoader, model: str = "") -> None:
        """There is room for `most`; `model` is the id of what they are adapters of."""
        self._most = most
        self._loader = loader
        self._places: dict[Adapter, _Seat] = {}
        """The one used longest ago first."""
        self._newcomer = asyncio.Lock()
        """One gets a place at a time, in the order in which they came."""
        self._failures: dict[Adapter, tuple[float, str]] = {}
        self.counts = AdapterCounts(model)

    @property
    def ids(self) -> tuple[str, ...]:
        """Of those in memory, the one used longest ago first."""
        return tuple(dict.fromkeys(one.id for one, place in self._places.items() if place.ready.done()))

    @contextlib.asynccontextmanager
    async def use(self, adapter: Adapter) -> AsyncIterator[None]:
        """Have it in memory. Raises ApiError 400 for one that cannot be used."""
        with self.counts.request(adapter.id):
            async with self._used(adapter):
                yield

    @contextlib.asynccontextmanager
    async def _used(self, adapter: Adapter) -> AsyncIterator[None]:
        place = await self._place(adapter)
        place.open += 1
        place.idle.clear()
        self._places[adapter] = self._places.pop(adapter)
        try:
            # Another request may wait for it as well, and this one's client may leave.
            await asyncio.shield(place.ready)
            yield
        except AdapterUnusable as unusable:
            raise _refused(adapter, str(unusable)) from None
        finally:
            place.open -= 1
            if not place.open:
                place.idle.set()

    async def _place(self, adapter: Adapter) -> _Seat:
        place = self._places.get(adapter)
        if place is None or place.leaving:
            async with self._newcomer:
                place = self._places.get(adapter)
                if place is None or place.leaving:
                    self._check(adapter)
                    await self._make_room()
                    place = self._places[adapter] = _Seat(asyncio.create_task(self._load(adapter)))
        return place

    async def _make_room(self) -> None:
        while len(self._places) >= self._most:
            idle = (one for one in self._places.items() if not one[1].open and one[1].ready.done())
            adapter, place = next(idle, next(iter(self._places.items())))
            place.leaving = True
            try:
                await place.idle.wait()
                await asyncio.wait((place.ready,))
            except BaseException:
                place.leaving = False
                raise
            if self._places.pop(adapter, None) is not None:
                await self._loader.unload(adapter)
                logger.info("the adapter %s has left", adapter.id)

    async def _load(self, adapter: Adapter) -> None:
        began = time.monotonic()
        try:
            await self._loader.load(adapter)
        except BaseException as error:
            self._places.pop(adapter, None)
            if isinstance(error, AdapterUnusable):
                self._failures[adapter] = (time.monotonic() + REMEMBERED_S, str(error))
                logger.warning("the adapter %s cannot be used: %s", adapter.id, error)
            raise
        took_s = time.monotonic() - began
        self.counts.loaded(adapter.id, took_s)
        logger.info("the adapter %s is loaded after %.3f s", adapter.id, took_s)

    def _check(self, adapter: Adapter) -> None:
        now = time.monotonic()
        self._failures = {one: failure for one, failure in self._failures.items() if failure[0] > now}
        if adapter in self._failures:
            raise _refused(adapter, self._failures[adapter][1])


def _refused(adapter: Adapter, why: str) -> ApiError:
    return ApiError(400, f"the adapter {adapter.id!r} cannot be used: {why}", "model", "adapter_unusable")
