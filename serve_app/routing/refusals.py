"""What a request is told that finds no replica in time."""

from __future__ import annotations

import math
from typing import Literal, get_args

from serve_app.http.errors import ApiError

Refusal = Literal["too many", "too long", "made way", "waited in vain", "sent back", "no replica"]
"""Why a request was sent away: the queue was full; it would have waited too long; it made way, as batch work or as one
of a client that had the most waiting; it was let in and all replicas stayed full; they sent it back again and again; no
replica was ready in time."""
REFUSALS: tuple[Refusal, ...] = get_args(Refusal)

RETRY_MOST_S = 60
"""No client is told to stay away for longer."""
NOT_READY_RETRY_S = 10


def overloaded(message: str, retry_s: float | None) -> ApiError:
    """429. `retry_s` is when a new request would find a queue that is short enough, if no others came; None where that
    is not known."""
    after_s = max(1, min(RETRY_MOST_S, math.ceil(retry_s or 0)))
    text = f"{message}; retry in {after_s} s, or add replicas"
    return ApiError(429, text, code="overloaded", retry_after_s=after_s)


def too_many(model: str, waiting: int, retry_s: float | None) -> ApiError:
    """429 for one that finds the queue full."""
    return overloaded(f"{waiting} sequences for {model!r} wait already", retry_s)


def too_long(model: str, before: int, per_s: float, wait_s: float, limit_s: float) -> ApiError:
    """429 for one that would wait for `wait_s` behind so many sequences, of which `per_s` a second are taken."""
    return overloaded(
        f"{before} sequences for {model!r} wait already, and {per_s:.3g} a second are taken: this one would wait about"
        f" {wait_s:.0f} s, too long for the {limit_s:g} s allowed",
        wait_s - limit_s,
    )


def made_way(model: str, retry_s: float | None) -> ApiError:
    """429 for batch work that waited, when the queue was full and an interactive request came."""
    return overloaded(f"the queue of {model!r} is full, and batch work makes way for interactive requests", retry_s)


def fullest_made_way(model: str, retry_s: float | None) -> ApiError:
    """429 for one that waited, of the client that had the most waiting, when the queue was full and another came."""
    return overloaded(f"the queue of {model!r} is full, and who has the most waiting makes way for others", retry_s)


def stayed_full(model: str, waited_s: float, retry_s: float | None) -> ApiError:
    """429 for one that was let in, and waited in vain."""
    return overloaded(f"every replica of {model!r} stayed full for {waited_s:g} s", retry_s)


def not_ready(model: str, waited_s: float) -> ApiError:
    """503 for one that has waited in vain for a model's first replica."""
    message = f"no replica of {model!r} is ready; the request waited {waited_s:g} s for one"
    return ApiError(503, message, param="model", code="model_not_ready", retry_after_s=NOT_READY_RETRY_S)
