"""What the policy knows of a model's replicas, told to the processes that route to them.

That is when replicas that were ordered will serve, for pools in which requests wait for them, and how many should be
awake, for which replicas that sleep are woken and others sent to sleep.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import aiohttp

from serve_app.autoscaling import state
from serve_app.autoscaling.standby import orders
from serve_app.replica import failed_starts
from serve_app.replica.ask import tell
from serve_app.replica.sleep import SLEEP, WAKE
from serve_app.routing.catalogue import Catalogue
from serve_app.routing.expected_wait import Coming
from serve_app.routing.pool import ReplicaPool

LOOK_S = 0.5
"""How often a process asks, of models in whose pools requests wait or whose replicas may sleep."""

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


async def follow(catalogue: Catalogue, app: str, session: aiohttp.ClientSession) -> None:
    """Tell pools what is coming while requests wait in them, and replicas to wake or sleep; until cancelled."""
    scaled = [(one, one.config.autoscaling) for one in catalogue.models if one.config.autoscaling]
    while True:
        await asyncio.sleep(LOOK_S)
        for one, settings in scaled:
            if not one.pool.queue.waiting and not settings.standby:
                one.pool.queue.coming = None
                continue
            try:
                known, failed = await asyncio.to_thread(_look, app, one.config.id)
            except Exception as error:
                logger.warning("%s: it is not known what its policy has decided: %r", one.config.id, error)
                continue
            one.pool.queue.coming = _coming(known["replicas"]) if known and not failed else None
            if known and settings.standby:
                await _carry_out(one.pool, known["replicas"], session)


def _look(app: str, model: str) -> tuple[dict[str, Any] | None, bool]:
    """What the policy says of a model, and whether its last start failed: who cannot say when is not coming."""
    return state.read(app, model), bool(failed_starts.failing(app, [model], time.time()))


def _coming(replicas: dict[str, float | None]) -> Coming | None:
    """From the policy's state, on the clock of pools: those that are starting, without those that will only sleep."""
    in_s, starting, awake = replicas["ready_in_s"], replicas["starting"] or 0, replicas["awake"] or 0
    count = int(min(starting, awake - ((replicas["ready"] or 0) - (replicas["asleep"] or 0))))
    return Coming(count, time.monotonic() + in_s) if count > 0 and in_s is not None else None


async def _carry_out(pool: ReplicaPool, replicas: dict[str, int], session: aiohttp.ClientSession) -> None:
    """Have as many replicas awake as the policy's state says; one that does not do as it is told is told again."""
    seen = replicas["ready"] - replicas["asleep"]
    wake, sleep = orders(pool.replicas, replicas["awake"], seen, pool.now())
    told = [tell(session, one.info, WAKE) for one in wake] + [tell(session, one.info, SLEEP) for one in sleep]
    done = await asyncio.gather(*told)
    for replica in (one for one, is_awake in zip(wake, done, strict=False) if is_awake):
        pool.woken(replica)
