"""What a model's policy saw, decided and why, and its last changes: written by the controller, read by the ingress."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict
from typing import Any, NamedTuple

from serve_app.autoscaling.demand import Observation, Totals
from serve_app.autoscaling.policy import Decision
from serve_app.compat import kv_store

CHANGES = 100
"""Kept for each model."""
DIGITS = 3


class Counts(NamedTuple):
    """A model's replicas at a time."""

    ready: int
    """Started, those that sleep included."""
    asleep: int
    target: int
    """Wanted, those that should sleep included."""


Change = dict[str, Any]
"""at (seconds since the epoch), from, to, reason."""
_changes: dict[str, deque[Change]] = {}
"""By model's key. Outlives the policies, which Ray Serve builds anew with each deployment."""


def keys(app: str, model: str) -> tuple[str, str]:
    """Where the present state and the changes of a model are written."""
    return f"state/{app}/{model}", f"changes/{app}/{model}"


def describe(
    at: float,
    seen: Observation,
    decision: Decision,
    bounds: tuple[int, int],
    counts: Counts,
    ready_in_s: float | None,
) -> dict[str, Any]:
    """The present state, for people and programs. `at` is in seconds since the epoch; `ready_in_s` is when the replicas
    that are starting should serve, where that is known."""
    totals = Totals.of(seen)
    inputs = asdict(totals) | {"kv_usage": totals.kv_usage / max(1, totals.replicas)}
    del inputs["replicas"]
    # /autoscaling has always said it so.
    inputs["held"] = inputs.pop("queued")
    return {
        "at": round(at, DIGITS),
        "bounds": {"min": bounds[0], "max": bounds[1]},
        "replicas": {
            "ready": counts.ready,
            "asleep": counts.asleep,
            "reporting": totals.replicas + counts.asleep,
            "starting": max(0, counts.target - counts.ready),
            "target": counts.target,
            "awake": decision.replicas,
            "ready_in_s": None if ready_in_s is None else round(ready_in_s, 1),
        },
        "inputs": _rounded(inputs),
        "needs": _rounded(decision.needs),
        "decision": decision.replicas,
        "reason": decision.reason,
    }


def changed(key: str, change: Change) -> list[Change]:
    """All changes kept under this key, the new one included, the latest last."""
    kept = _changes.setdefault(key, deque(maxlen=CHANGES))
    kept.append(change)
    return list(kept)


def replicas(app: str, model: str) -> dict[str, Any] | None:
    """Of the model's state, what it says of its replicas; None before its policy has said anything. Blocks briefly."""
    state = kv_store.read(keys(app, model)[0])
    return None if state is None else dict(state["replicas"])


def read(app: str, model: str) -> dict[str, Any] | None:
    """The model's state and its changes, the latest first; None before its policy has said anything. Blocks briefly."""
    present, past = keys(app, model)
    state = kv_store.read(present)
    return None if state is None else state | {"changes": (kv_store.read(past) or [])[::-1]}


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, DIGITS) for name, value in values.items()}
