"""A replica from which nothing comes any more is ended, so that Ray Serve starts another in its place."""

from __future__ import annotations

import asyncio
import logging

from serve_app.compat.replica_actor import end_if_silent
from serve_app.config.names import deployment

PATIENCE_S = 3.0
"""For an answer by way of Ray: where that comes, it is the network between that is broken, and the replica stays."""

logger = logging.getLogger("ray.serve")


class FrozenReplicas:
    """Told by the router of replicas that it finds frozen."""

    def __init__(self, app: str) -> None:
        self._app = app
        self._ending: set[asyncio.Task[None]] = set()

    def found(self, model: str, replica: str) -> None:
        """Returns at once."""
        task = asyncio.create_task(self._end(model, replica))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, model: str, replica: str) -> None:
        try:
            ended = await asyncio.to_thread(end_if_silent, self._app, deployment(model), replica, PATIENCE_S)
        except Exception as error:
            logger.warning("%s: the frozen replica %s could not be ended: %r", model, replica, error)
            return
        what = "is frozen and was ended" if ended else "answers Ray, but not this process: it stays"
        logger.warning("%s: the replica %s %s", model, replica, what)
