"""Whether the configuration that was deployed last is what runs, and why it is not, as /ready and the log tell.

Ray Serve knows, and keeps what ran before where a new version cannot be built or started.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from serve_app.compat.serve_status import RUNNING, RolloutState, look

LOOK_S = 3.0

logger = logging.getLogger("ray.serve")


class Rollout:
    """Looked up again and again beside the requests, so that no page waits for Serve's controller."""

    def __init__(self, app: str) -> None:
        self._app = app
        self._state = RUNNING

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            try:
                self.tell(await asyncio.to_thread(look, self._app))
            except Exception as error:
                logger.warning("how far a deploy is, is not known: %r", error)
            await asyncio.sleep(LOOK_S)

    def tell(self, state: RolloutState) -> None:
        """Take over what Serve says now; the log has it where something is wrong that was not before."""
        if state.reason and state.reason != self._state.reason:
            logger.error("what was deployed last does not run, and what ran before goes on: %s", state.reason)
        self._state = state

    def settled(self, deployment: str) -> bool:
        """Whether a deployment has all the replicas it should, so that what failed before is over."""
        return deployment in self._state.settled

    def shown(self, reasons: bool) -> dict[str, Any]:
        """`{"deploy": {state, reason}}` for /ready, without the reason unless `reasons`; empty where all runs."""
        if self._state.state == RUNNING.state:
            return {}
        told = {"reason": self._state.reason} if reasons and self._state.reason else {}
        return {"deploy": {"state": self._state.state, **told}}
