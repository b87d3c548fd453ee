"""Requests held outside replicas for want of one: how the processes that hold them tell the policy.

asyncio.create_task(held.report("batch", lambda: {"LiquidAI/LFM2-1.2B": backlog.open}))
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from ray import serve

from serve_app.compat import kv_store

PREFIX = "held/"
LOOK_S = 0.25
"""How often a process looks at its own counts; it writes no more often."""
REPEAT_S = 1.0
"""How often a count that stays as it is is written again, to show that its process lives."""
EXPIRES_S = 4.0
"""A count that is not written again for so long is a dead process's."""

logger = logging.getLogger("ray.serve")


async def report(source: str, counts: Callable[[], Mapping[str, int]]) -> None:
    """Keep the policy informed of `counts()`, sequences by model id, until cancelled. For replicas of Ray Serve.

    `source` says what holds them (ingress, batch). A process writes while it holds any, at most every `LOOK_S`, and
    when it has come to hold none; otherwise this costs it one call of `counts` every `LOOK_S`.
    """
    app = serve.get_replica_context().app_name
    key = f"{PREFIX}{source}/{uuid4().hex}"
    clock = asyncio.get_running_loop().time
    written: dict[str, int] = {}
    written_at = clock()
    numbers = itertools.count()
    while True:
        held = {model: count for model, count in counts().items() if count}
        try:
            if held and (held != written or clock() - written_at >= REPEAT_S):
                fact = {"app": app, "number": next(numbers), "held": held}
                await asyncio.to_thread(kv_store.write, key, fact)
                written, written_at = held, clock()
            elif written and not held:
                await asyncio.to_thread(kv_store.erase, key)
                written = {}
        except Exception as error:
            logger.warning("the autoscaling policy was not told of held requests: %r", error)
            await asyncio.sleep(REPEAT_S)
        await asyncio.sleep(LOOK_S)


class Tally:
    """All processes' counts as their reader has them. The clock is its own: those of other nodes may differ."""

    def __init__(self) -> None:
        self._facts: dict[str, tuple[dict[str, Any], float]] = {}
        """By key: what was written, and when it was first seen."""

    def update(self, now: float, facts: Mapping[str, dict[str, Any]]) -> list[str]:
        """Take over what is written now; the keys of those that have expired."""
        known = self._facts
        self._facts = {
            key: known[key] if key in known and known[key][0] == fact else (fact, now) for key, fact in facts.items()
        }
        return [key for key, (_, since) in self._facts.items() if now - since > EXPIRES_S]

    def held(self, now: float, app: str, model: str) -> int:
        """Sequences for the model, over all processes that are alive."""
        return sum(
            fact["held"].get(model, 0)
            for fact, since in self._facts.values()
            if fact["app"] == app and now - since <= EXPIRES_S
        )
