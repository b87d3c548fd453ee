"""Which replicas should wake, and which should sleep, so that as many are awake as the policy wants.

The policy decides a number. Any process that knows the replicas carries it out, and all of them choose the same ones:
of those that sleep the first by id, of those that are awake the last. So it does no harm when several do at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from serve_app.config.schema import Autoscaling
from serve_app.routing.replica import Replica


class Orders(NamedTuple):
    """What to tell replicas."""

    wake: list[Replica]
    sleep: list[Replica]


def in_all(settings: Autoscaling, awake: int, up: int, before: int) -> int:
    """Replicas to have, sleeping ones included, where `awake` should be awake, `up` are, and there were `before`.

    Ray Serve chooses itself which of them go: none does before as many sleep as should, lest it be one that serves.
    """
    wanted = min(settings.max_replicas, awake + settings.standby)
    return before if wanted < before and settings.standby and up > awake else wanted


def orders(replicas: Iterable[Replica], awake: int, seen: int, now: float) -> Orders:
    """For a model that should have so many awake, by a policy that saw `seen` awake; on the clock of its pool.

    None sleeps that the policy has not seen awake: a request may have woken it since.
    """
    serving = sorted((one for one in replicas if one.serves(now)), key=lambda one: one.id)
    asleep = [one for one in serving if one.asleep(now)]
    missing = awake - (len(serving) - len(asleep))
    up = [one for one in serving if not one.asleep(now)]
    spare = min(-missing, seen - awake)
    return Orders(asleep[: max(0, missing)], up[len(up) - spare :] if spare > 0 else [])
