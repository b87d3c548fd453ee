"""Says in the log that a replica was lost: once for each, however many streams it had."""

from __future__ import annotations

import asyncio
import logging

GATHERED_S = 1.0
"""How long the streams of one lost replica are counted before the log has its line."""

logger = logging.getLogger("ray.serve")


class Losses:
    """Of one process, on its event loop."""

    def __init__(self) -> None:
        self._streams: dict[str, int] = {}
        """Those that have lost each replica of which nothing has been said yet, by its id."""

    def lost(self, model: str, replica: str, reason: str) -> None:
        """A stream has lost its replica, and goes elsewhere."""
        if replica not in self._streams:
            self._streams[replica] = 0
            asyncio.get_running_loop().call_later(GATHERED_S, self._say, model, replica, reason)
        self._streams[replica] += 1

    def _say(self, model: str, replica: str, reason: str) -> None:
        streams = self._streams.pop(replica)
        logger.warning("%s: replica %s was lost (%s): %d streams go on elsewhere", model, replica, reason, streams)
