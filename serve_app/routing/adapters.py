"""Keeps a catalogue's adapters as they are in the directories of its models."""

from __future__ import annotations

import asyncio
import logging
import time

from serve_app.adapters.directory import AdapterDirectory
from serve_app.routing.catalogue import Catalogue, Served

LOOK_S = 1.0
"""How often the directories are looked at."""
LEAST_S = 0.1
"""Between two looks that unknown names are the reason for."""

logger = logging.getLogger("ray.serve")


class AdapterWatch:
    """Of one process that routes requests."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._directories = [(one, AdapterDirectory(one.config)) for one in catalogue.models if one.config.adapters]
        self._looking = asyncio.Lock()
        self._looked_at = 0.0

    def directory(self, served: Served) -> AdapterDirectory | None:
        """Where a model's adapters are; None for a model without."""
        return next((directory for one, directory in self._directories if one is served), None)

    async def follow(self) -> None:
        """Returns where no model has adapters, and otherwise never."""
        while self._directories:
            try:
                await self.look()
            except Exception:
                logger.exception("adapters stay as they were")
            await asyncio.sleep(LOOK_S)

    async def look_again(self) -> bool:
        """For a name that nobody knows: it may have come since the last look. False where nothing can have come."""
        if not self._directories:
            return False
        asked_at = time.monotonic()
        async with self._looking:
            if self._looked_at + LEAST_S < asked_at:
                await self._look()
        return True

    async def look(self) -> None:
        """Take over what there is by now."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        for served, directory in self._directories:
            self._catalogue.set_adapters(served, await asyncio.to_thread(directory.look))
        self._looked_at = time.monotonic()
