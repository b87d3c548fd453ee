"""When replicas that were ordered will serve: the policy knows, and pools whose requests wait for them are told."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from serve_app.autoscaling import state
from serve_app.replica import failed_starts
from serve_app.routing.catalogue import Catalogue
from serve_app.routing.expected_wait import Coming

LOOK_S = 1.0
"""How often a process in which requests wait asks what is coming."""

logger = logging.getLogger("ray.serve")


class StartupWatch:
    """One model's orders, as its policy sees them, and how long the last one took."""

    def __init__(self, startup_s: float | None) -> None:
        """`startup_s` is what the configuration says; what is seen counts more."""
        self._startup_s = startup_s
        self._ordered_at = 0.0
        """When the last of the replicas that are missing was ordered."""
        self._target = self._before = 0
        """Replicas wanted, and how many served when the first of those that are missing was ordered."""
        self._missing = False

    def ready_in_s(self, now: float, target: int, ready: int) -> float | None:
        """Seconds until all replicas that are missing should serve; None where none is or nobody knows."""
        grew, self._target = target > self._target, target
        if target <= ready:
            if self._missing and ready > self._before:
                self._startup_s = now - self._ordered_at
            self._missing = False
            return None
        if not self._missing:
            self._missing, self._before, self._ordered_at = True, ready, now
        elif grew:
            self._ordered_at = now
        return None if self._startup_s is None else max(0.0, self._ordered_at + self._startup_s - now)


async def follow(catalogue: Catalogue, app: str) -> None:
    """Tell the pools of models that scale what is coming, while requests wait in them; until cancelled."""
    scaled = [one for one in catalogue.models if one.config.autoscaling]
    while True:
        await asyncio.sleep(LOOK_S)
        for one in scaled:
            if not one.pool.waiting:
                one.pool.coming = None
                continue
            try:
                known, failed = await asyncio.to_thread(_look, app, one.config.id)
            except Exception as error:
                logger.warning("%s: it is not known which replicas are coming: %r", one.config.id, error)
                continue
            one.pool.coming = _coming(known["replicas"]) if known and not failed else None


def _look(app: str, model: str) -> tuple[dict[str, Any] | None, bool]:
    """What the policy says of a model, and whether its last start failed: who cannot say when is not coming."""
    return state.read(app, model), bool(failed_starts.failing(app, [model], time.time()))


def _coming(replicas: dict[str, float | None]) -> Coming | None:
    """From the policy's state, on the clock of pools."""
    in_s, starting = replicas["ready_in_s"], replicas["starting"]
    return Coming(int(starting), time.monotonic() + in_s) if starting and in_s is not None else None
