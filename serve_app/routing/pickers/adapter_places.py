"""Where requests for an adapter go: to replicas that have it loaded, and else to a few that are its own.

An adapter belongs to its first place, and spreads to the next while the first is crowded: a hot one is on many replicas
then, and a cold one on one. Every process finds the same places, without a word between them.
"""

from __future__ import annotations

import functools
import random
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import shake_128
from itertools import islice

from serve_app.routing.picker import Key
from serve_app.routing.pickers.least_loaded import least_loaded_of_two
from serve_app.routing.random_set import RandomSet
from serve_app.routing.replica import Replica
from serve_app.routing.ring import Ring

PLACES = 8
"""Of an adapter at most, before any other replica has it."""
MOST_KNOWN = 4096
"""Adapters whose places are kept; they cost some 50 us each to find anew."""
EXCESS = 1 / 4
"""Sequences a replica may hold beyond the bound and still be preferred for an adapter that it has or is to have, as a
share of `max_running`: to load one stops all of a replica's streams for a moment, and takes another's place there."""
_HASHES = struct.Struct("<64Q")
"""Enough to find PLACES different replicas where there are more."""


class AdapterPlaces:
    """The places of adapters on a ring of replicas, and who has which."""

    def __init__(self, ring: Ring, rng: random.Random) -> None:
        self._ring = ring
        self._rng = rng
        self._replicas: Mapping[str, Replica] = {}
        self._told: dict[Replica, tuple[str, ...]] = {}
        """What each replica said last that it has."""
        self._having: dict[str, RandomSet[Replica]] = {}
        """By adapter; none is empty."""
        self._places: dict[str, tuple[Replica, ...]] = {}

    def update(self, replicas: Mapping[str, Replica]) -> None:
        """Take over the replicas of the ring by id. Costs what has changed, and a look at each."""
        self._replicas = replicas
        now = {replica: replica.load.adapters for replica in replicas.values()}
        if now == self._told:
            return
        if now.keys() != self._told.keys():
            self._places.clear()
        for replica, adapters in self._told.items():
            for adapter in set(adapters).difference(now.get(replica, ())):
                self._having[adapter].discard(replica)
                if not self._having[adapter]:
                    del self._having[adapter]
        for replica, adapters in now.items():
            for adapter in set(adapters).difference(self._told.get(replica, ())):
                self._having.setdefault(adapter, RandomSet()).add(replica)
        self._told = now

    def of(self, adapter: str) -> tuple[Replica, ...]:
        """The adapter's own places, in their order."""
        if (places := self._places.get(adapter)) is None:
            if len(self._places) >= MOST_KNOWN:
                self._places.clear()
            found = dict.fromkeys(self._replicas[self._ring.home(hash)] for hash in _hashes(adapter))
            places = self._places[adapter] = tuple(islice(found, PLACES))
        return places

    def preferred(
        self, adapter: str, places: Sequence[Replica], key: Key | None, usable: Callable[[Replica], bool]
    ) -> Iterator[Replica]:
        """Replicas that a request for the adapter prefers to the less loaded of two, the first most; `places` are those
        that `of` gives.

        Of those that have it, the one comes first that has answered what the request shares with others, by its key:
        with another adapter the same prefix is another one. Where some have it, others load it only if that takes no
        adapter's place that is in use: else those that are crowded would make all crowded.
        """
        having = self._having.get(adapter)
        if not having:
            yield from places
            return
        own = (self._replicas[self._ring.home(hash ^ _salt(adapter))] for hash in key or ())
        yield from (one for one in (*own, *places) if one in having)
        if other := least_loaded_of_two(having, lambda replica: replica.pressure, usable, self._rng):
            yield other
        yield from (one for one in places if has_place(one))

    def instead(self, adapter: str, other: Replica, usable: Callable[[Replica], bool]) -> Replica:
        """Who gets a request for the adapter where all preferred are crowded: the less loaded of two that have it,
        unless `other` has a place for it, or each of them would have it wait for its batch."""
        having = self._having.get(adapter)
        if not having or has_place(other):
            return other
        found = least_loaded_of_two(having, lambda replica: replica.pressure, usable, self._rng)
        return other if found is None or found.queues else found


def has_place(replica: Replica) -> bool:
    """Whether it could load an adapter without taking the place of one that is in use."""
    return len(replica.load.adapter_requests) < replica.info.max_adapters


def _hashes(adapter: str) -> Sequence[int]:
    """The same in every process, unlike Python's own hash."""
    return _HASHES.unpack(shake_128(adapter.encode()).digest(_HASHES.size))


@functools.lru_cache(maxsize=MOST_KNOWN)
def _salt(adapter: str) -> int:
    return _hashes(adapter)[0]
