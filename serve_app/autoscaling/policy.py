"""How many replicas the demand asks for: a pure function."""

from __future__ import annotations

import math


def desired_replicas(demand: float, per_replica: float, lowest: int, highest: int) -> int:
    """Replicas that hold `demand` requests at `per_replica` requests each, within the bounds."""
    return min(highest, max(lowest, math.ceil(demand / per_replica)))
