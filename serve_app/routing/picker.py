"""Choosing a replica: pure functions of what is known of each."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")

CROWDED = 1.25
"""How many times the load of the alternative a replica may have and still be preferred for what it has cached."""


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


def _two(candidates: Sequence[T], rng: random.Random) -> Sequence[T]:
    """Two different ones, or the only one. `rng.sample` takes four times as long."""
    count = len(candidates)
    if count == 1:
        return candidates
    first = int(rng.random() * count)
    second = int(rng.random() * (count - 1))
    return candidates[first], candidates[second + (second >= first)]
