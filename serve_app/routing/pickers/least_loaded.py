"""`routing_policy: least_loaded`: the less loaded of two random replicas."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from starlette.types import Scope

from serve_app.routing.head import RequestHead
from serve_app.routing.picker import Key, no_requests_placed
from serve_app.routing.random_set import RandomSet
from serve_app.routing.replica import Replica

T = TypeVar("T")


class LeastLoaded:
    """Whatever requests share makes no difference."""

    affine = False

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()
        self.placed = no_requests_placed()

    def key(self, scope: Scope, head: RequestHead) -> Key | None:
        return None

    def update(self, replicas: Mapping[str, Replica]) -> None:
        """Nothing is known of replicas but what stands in `room`."""

    def pick(
        self,
        room: RandomSet[Replica],
        usable: Callable[[Replica], bool],
        key: Key | None,
        adapter: str | None = None,
    ) -> Replica | None:
        replica = least_loaded_of_two(room, lambda replica: replica.pressure, usable, self._rng)
        if replica is not None:
            self.placed["none"] += 1
        return replica


def least_loaded_of_two(
    candidates: Sequence[T], load: Callable[[T], float], usable: Callable[[T], bool], rng: random.Random
) -> T | None:
    """The less loaded of two random usable candidates; None if there is none.

    Two random choices bring the longest queue from O(log n) to O(log log n) without looking at everyone
    (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001). Only when neither of the two
    is usable are all of them looked at.
    """
    if not candidates:
        return None
    pair = [candidate for candidate in _two(candidates, rng) if usable(candidate)]
    if not pair:
        pair = [candidate for candidate in candidates if usable(candidate)]
    return min(pair, key=load, default=None)


def _two(candidates: Sequence[T], rng: random.Random) -> Sequence[T]:
    """Two different ones, or the only one. `rng.sample` takes four times as long."""
    count = len(candidates)
    if count == 1:
        return candidates
    first = int(rng.random() * count)
    second = int(rng.random() * (count - 1))
    return candidates[first], candidates[second + (second >= first)]
