"""Choosing a replica: a pure function of what is known of each."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


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
    pair = [rng.choice(candidates)] if len(candidates) == 1 else rng.sample(candidates, 2)
    pair = [candidate for candidate in pair if usable(candidate)]
    if not pair:
        pair = [candidate for candidate in candidates if usable(candidate)]
    return min(pair, key=load, default=None)
