"""What Ray Serve does to the wish of an autoscaling policy before it acts on it: scaling factors, then delays.

Serve 2.60's controller does both inside the policy that it calls, by functions that are private to
`ray.serve.autoscaling_policy` and read the wall clock unless told otherwise. A simulation of Serve's policy has a clock
of its own, so it needs them piece by piece.
"""

from __future__ import annotations

from typing import Any

from ray.serve.autoscaling_policy import _apply_delay_logic, _apply_scaling_factors
from ray.serve.config import AutoscalingConfig


def apply_factors_and_delays(
    wanted: float, ready: int, target: int, config: AutoscalingConfig, state: dict[str, Any], at_s: float
) -> tuple[int, dict[str, Any]]:
    """(replicas to have from now on, the state to pass in next time).

    `wanted` is what the policy wants, `ready` the replicas that run, `target` those that were ordered; `state` is empty
    at first, and `at_s` the time in s on any clock that does not go back.
    """
    scaled = _apply_scaling_factors(wanted, ready, config)
    return _apply_delay_logic(max(0, scaled), target, config, state, at_s)
