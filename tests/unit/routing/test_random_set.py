"""The set to draw from."""

from __future__ import annotations

import random

from serve_app.routing.random_set import RandomSet


def test_it_holds_what_a_set_would_and_numbers_it() -> None:
    rng = random.Random(1)
    bag, held = RandomSet([3, 3, 4]), {3, 4}
    for _ in range(2000):
        item = rng.randrange(20)
        if rng.random() < 0.5:
            bag.add(item)
            held.add(item)
        else:
            bag.discard(item)
            held.discard(item)
        assert len(bag) == len(held) and set(bag) == held and {bag[at] for at in range(len(bag))} == held
        assert all((item in bag) == (item in held) for item in range(20))
