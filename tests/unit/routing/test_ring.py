"""The ring: shares, and what moves when replicas come and go."""

from __future__ import annotations

import random
from collections import Counter

from serve_app.routing.ring import Ring

RNG = random.Random(1)
HASHES = [0, 2**64 - 1, *(RNG.getrandbits(64) for _ in range(20_000))]
IDS = [f"replica-{number}" for number in range(10)]


def homes(ring: Ring) -> list[str]:
    return [ring.home(hash) for hash in HASHES]


def ring_of(*ids: str) -> Ring:
    ring = Ring()
    ring.update(ids)
    return ring


def test_shares_are_about_even() -> None:
    shares = Counter(homes(ring_of(*IDS)))
    assert set(shares) == set(IDS)
    assert max(shares.values()) < 1.5 * len(HASHES) / len(IDS)
    assert min(shares.values()) > 0.5 * len(HASHES) / len(IDS)


def test_processes_that_learned_of_replicas_differently_agree() -> None:
    late = ring_of(*reversed(IDS[4:]), "gone")
    late.update([*IDS[:4], *IDS[4:]])
    assert homes(late) == homes(ring_of(*IDS))


def test_a_replica_that_leaves_moves_only_its_own() -> None:
    ring = ring_of(*IDS)
    before = homes(ring)
    ring.update(IDS[1:])
    after = homes(ring)
    assert all(old == new for old, new in zip(before, after, strict=True) if old != IDS[0])
    moved = Counter(new for old, new in zip(before, after, strict=True) if old == IDS[0])
    assert len(moved) > len(IDS) / 2


def test_a_replica_that_comes_takes_from_all_and_moves_nothing_else() -> None:
    ring = ring_of(*IDS)
    before = homes(ring)
    ring.update([*IDS, "new"])
    moved = [(old, new) for old, new in zip(before, homes(ring), strict=True) if old != new]
    assert {old for old, _ in moved} == set(IDS) and {new for _, new in moved} == {"new"}
    assert len(moved) < 2 * len(HASHES) / len(IDS)
