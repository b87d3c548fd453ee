"""`routing_policy: prefix_affinity`: requests with a common prefix, session or adapter share a replica, if not crowded.

Which replica each belongs to follows from the replicas' ids, so that every process finds the same one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from starlette.types import Scope

from serve_app.routing.affinity import affinity_key
from serve_app.routing.head import RequestHead
from serve_app.routing.picker import Key, no_requests_placed
from serve_app.routing.pickers import adapter_places
from serve_app.routing.pickers.adapter_places import AdapterPlaces
from serve_app.routing.pickers.least_loaded import least_loaded_of_two
from serve_app.routing.random_set import RandomSet
from serve_app.routing.replica import Replica
from serve_app.routing.ring import Ring

T = TypeVar("T")

CROWDED = 1.25
"""How many times the load of the alternative a replica may have and still be preferred for what it has cached."""
PREFERRED_EXCESS = 1 / 64
"""Sequences a replica may hold beyond the bound and still be preferred for its cache, as a share of `max_running`:
4 of 256 hardly lengthen a decoding step. At least one, since the last report may count one that has ended."""


class PrefixAffinity:
    """A request's home, else its second place, else the less loaded of two random replicas."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()
        self._ring = Ring()
        self._adapters = AdapterPlaces(self._ring, self._rng)
        self._replicas: Mapping[str, Replica] = {}
        self.placed = no_requests_placed()

    @property
    def affine(self) -> bool:
        """Whether there is a choice of replicas."""
        return len(self._replicas) > 1

    def key(self, scope: Scope, head: RequestHead) -> Key | None:
        return affinity_key(scope, head) if self.affine else None

    def update(self, replicas: Mapping[str, Replica]) -> None:
        self._replicas = replicas
        self._ring.update(replicas)
        self._adapters.update(replicas)

    def pick(
        self,
        room: RandomSet[Replica],
        usable: Callable[[Replica], bool],
        key: Key | None,
        adapter: str | None = None,
    ) -> Replica | None:
        other = least_loaded_of_two(room, lambda replica: replica.pressure, usable, self._rng)
        if other is None:
            return None
        if (key is None and adapter is None) or not self.affine:
            self.placed["none"] += 1
            return other

        # A cached prefix saves less than a wait for a place in the batch costs, where there is one elsewhere.
        def fits(replica: Replica) -> bool:
            return replica in room and usable(replica) and (other.queues or not replica.queues)

        if adapter is None:
            places: Sequence[Replica] = [self._replicas[self._ring.home(hash)] for hash in key or ()]
            preferred, excess = iter(places), PREFERRED_EXCESS
        else:
            places = self._adapters.of(adapter)
            preferred, excess = self._adapters.preferred(adapter, places, key, usable), adapter_places.EXCESS
        slack = max(1.0, excess * other.info.max_running)
        chosen = first_uncrowded(preferred, other, lambda replica: replica.occupied, fits, slack)
        if chosen is None:
            chosen = other if adapter is None else self._adapters.instead(adapter, other, fits)
        self.placed["home" if chosen is places[0] else "second" if chosen in places else "spilled"] += 1
        return chosen


def first_uncrowded(
    preferred: Iterable[T], alternative: T, load: Callable[[T], float], usable: Callable[[T], bool], slack: float
) -> T | None:
    """The first usable of the preferred that is not much more loaded than the alternative; None if all are.

    Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2016), with the bound set by what the
    request would get otherwise in place of the mean: that is what it gives up, and needs no look at everyone.
    `slack`, in units of load, is allowed on top, so that a nearly idle replica is not left for an idle one.
    """
    bound = CROWDED * load(alternative) + slack
    for candidate in preferred:
        if usable(candidate) and load(candidate) <= bound:
            return candidate
    return None
