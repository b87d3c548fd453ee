"""Starts of a model's replicas that failed: told to everybody, and paced where the next would fail as well.

Ray Serve starts a failed replica again at once: a few times while none of a deployment has ever come up, then it gives
the deployment up; for ever once one has. What each node's last start failed with is in the key-value store. The next
start on that node, while Serve still counts, fails with the same reason at once instead of after a minute of imports;
from the `QUICK`th on it waits before it tries, longer each time.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from serve_app.compat import kv_store
from serve_app.config.schema import ModelConfig

PREFIX = "failed-starts/"
QUICK = 4
"""Serve gives a deployment of which nothing has come up so many starts at most."""
FRESH_S = 20.0
"""A start that failed for good less than this ago is not tried anew: nobody has put anything right meanwhile."""
FIRST_PAUSE_S = 10.0
LONGEST_PAUSE_S = 300.0
FORGOTTEN_S = 900.0
"""After this long without another, nobody is starting any more."""

logger = logging.getLogger("ray.serve")


class PermanentStartError(RuntimeError):
    """A replica cannot start, now or later, until somebody changes something; the text says what."""


@dataclass(frozen=True)
class FailedStart:
    """The last start of a model on a node, and how many failed in a row."""

    reason: str
    permanent: bool
    """Whether the next would fail as well."""
    count: int
    at: float
    """Seconds since the epoch."""
    config: str
    """What tells the model's configuration from another."""

    def may_repeat(self, now: float) -> bool:
        """Whether a start now would fail with the same reason, so that it need not be tried."""
        return self.permanent and self.count < QUICK and now - self.at < FRESH_S

    def pause_s(self, now: float) -> float:
        """How long the next start is to wait before it tries."""
        if self.count < QUICK:
            return 0.0
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self.count - QUICK, 10))
        return max(0.0, self.at + pause - now)


class NodeStarts:
    """What is known of a model's starts on one node. Its methods block briefly, and raise what Ray raises."""

    def __init__(self, app: str, model: ModelConfig, node: str) -> None:
        self._key = f"{PREFIX}{app}/{model.id}/{node}"
        self._config = hashlib.sha256(model.model_dump_json().encode()).hexdigest()[:16]

    def last(self, now: float) -> FailedStart | None:
        """The last failure of this configuration; None after a success, and once it is long ago."""
        fact = kv_store.read(self._key)
        known = None if fact is None else FailedStart(**fact)
        forgotten = known is None or known.config != self._config or now - known.at > FORGOTTEN_S
        return None if forgotten else known

    def failed(self, reason: str, permanent: bool, now: float) -> FailedStart:
        before = self.last(now)
        count = before.count + 1 if before else 1
        failure = FailedStart(reason, permanent, count, now, self._config)
        kv_store.write(self._key, asdict(failure))
        return failure

    def succeeded(self) -> None:
        kv_store.erase(self._key)


def failing(app: str, models: Iterable[str], now: float) -> dict[str, dict[str, Any]]:
    """By model, for people and programs, its latest failed start on any node that has not succeeded since. Blocks
    briefly."""
    found: dict[str, dict[str, Any]] = {}
    facts = kv_store.read_all(f"{PREFIX}{app}/")
    for model in models:
        start = f"{PREFIX}{app}/{model}/"
        known = [
            FailedStart(**fact) for key, fact in facts.items() if key.startswith(start) and "/" not in key[len(start) :]
        ]
        if latest := max((one for one in known if now - one.at <= FORGOTTEN_S), key=lambda one: one.at, default=None):
            shown = asdict(latest)
            del shown["config"]
            found[model] = shown
    return found
