"""What waits outside replicas for want of one, or was refused: sequences in ingress processes and in batches.

The processes that hold them `report` their counts to Ray's key-value store. The Serve controller's `BackgroundStore`
reads them for the autoscaling policies, and writes what the policies say, in a thread: the controller's loop runs every
policy and must never wait.

asyncio.create_task(queued.report("batch", lambda: {"LiquidAI/LFM2-1.2B": backlog.open}))
await queued.report("ingress", router.waiting, router.refused)
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from uuid import uuid4

from ray import serve

from serve_app.autoscaling.refused import RefusedRate
from serve_app.compat import kv_store

PREFIX = "queued/"
LOOK_S = 0.25
"""How often a process looks at its own counts; it writes no more often."""
REPEAT_S = 1.0
"""How often a count that stays as it is is written again, to show that its process lives."""
EXPIRES_S = 4.0
"""A count that is not written again for so long is a dead process's."""
PERIOD_S = 0.5
"""How often the controller's thread reads counts and writes states."""
IDLE_S = 30.0
"""The controller's thread ends when no policy has asked for so long: the last application is gone."""
COMPLAIN_S = 60.0
"""How often the controller's log says, at most, that the key-value store does not answer."""

logger = logging.getLogger("ray.serve")


class Outside(NamedTuple):
    """A model's sequences that no replica has."""

    queued: int
    refused_per_s: float


def _none_refused() -> Mapping[str, int]:
    return {}


async def report(
    source: str,
    counts: Callable[[], Mapping[str, int]],
    refused: Callable[[], Mapping[str, int]] = _none_refused,
) -> None:
    """Keep the policy informed of `counts()`, queued sequences by model id, until cancelled. For replicas of Ray Serve.

    `source` says what queues them (ingress, batch); `refused()` are those sent away so far. A process writes while it
    queues or refuses any, at most every `LOOK_S`, and when it has come to do neither; otherwise this costs it one call
    of each every `LOOK_S`.
    """
    app = serve.get_replica_context().app_name
    key = f"{PREFIX}{source}/{uuid4().hex}"
    clock = asyncio.get_running_loop().time
    written: dict[str, dict[str, float]] = {}
    written_at = clock()
    numbers = itertools.count()
    rates: dict[str, RefusedRate] = {}
    while True:
        per_s = {model: rates.setdefault(model, RefusedRate()).add(clock(), n) for model, n in refused().items()}
        outside = {"queued": _positive(counts()), "refused_per_s": _positive(per_s)}
        anything = any(outside.values())
        try:
            if anything and (outside != written or clock() - written_at >= REPEAT_S):
                fact = {"app": app, "number": next(numbers), **outside}
                await asyncio.to_thread(kv_store.write, key, fact)
                written, written_at = outside, clock()
            elif written and not anything:
                await asyncio.to_thread(kv_store.erase, key)
                written = {}
        except Exception as error:
            logger.warning("the autoscaling policy was not told of queued requests: %r", error)
            await asyncio.sleep(REPEAT_S)
        await asyncio.sleep(LOOK_S)


def _positive(counts: Mapping[str, float]) -> dict[str, float]:
    return {model: count for model, count in counts.items() if count}


class QueuedCounts:
    """The counts of all processes as their reader has them, on the reader's clock: those of other nodes may differ."""

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

    def outside(self, now: float, app: str, model: str) -> Outside:
        """The model's sequences outside replicas, over all processes that are alive."""
        alive = [fact for fact, at in self._facts.values() if fact["app"] == app and now - at <= EXPIRES_S]
        return Outside(
            queued=sum(fact["queued"].get(model, 0) for fact in alive),
            refused_per_s=sum(fact["refused_per_s"].get(model, 0.0) for fact in alive),
        )


class BackgroundStore:
    """The key-value store as the controller's policies use it, without waiting.

    They take what a thread last read, and leave what it is to write.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = QueuedCounts()
        self._outgoing: dict[str, Any] = {}
        self._running = False
        self._asked_at = 0.0
        self._complained_at = -COMPLAIN_S

    def outside(self, app: str, model: str) -> Outside:
        """The model's sequences outside its replicas, as of at most a second ago."""
        with self._lock:
            self._asked_at = time.monotonic()
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="serve-app-autoscaling", daemon=True).start()
            return self._counts.outside(self._asked_at, app, model)

    def write(self, key: str, fact: Any) -> None:
        """Have a fact written soon, unless a newer one of that key comes first."""
        with self._lock:
            self._outgoing[key] = fact

    def _run(self) -> None:
        while True:
            with self._lock:
                if time.monotonic() - self._asked_at > IDLE_S:
                    self._running = False
                    return
                outgoing, self._outgoing = self._outgoing, {}
            try:
                self._exchange(outgoing)
            except Exception as error:
                self._complain(error)
                with self._lock:
                    self._outgoing = outgoing | self._outgoing
            time.sleep(PERIOD_S)

    def _exchange(self, outgoing: dict[str, Any]) -> None:
        facts = kv_store.read_all(PREFIX)
        with self._lock:
            expired = self._counts.update(time.monotonic(), facts)
        for key in expired:
            kv_store.erase(key)
        for key, fact in outgoing.items():
            kv_store.write(key, fact)

    def _complain(self, error: Exception) -> None:
        if time.monotonic() - self._complained_at > COMPLAIN_S:
            self._complained_at = time.monotonic()
            logger.warning("autoscaling neither knows of queued requests nor shows what it does: %r", error)


shared = BackgroundStore()
"""The controller's. Ray Serve builds policies anew with each deployment; what this holds lasts longer."""
