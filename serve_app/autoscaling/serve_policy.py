"""Ray Serve's signature around the policy.

Serve counts no requests of this service (they do not pass through its handles), so the demand is what the
replicas report through `record_autoscaling_stats`. Serve applies the up and down delays to what is returned.
"""

from __future__ import annotations

from typing import Any

from ray.serve.config import AutoscalingContext

from serve_app.autoscaling.policy import desired_replicas


class DemandPolicy:
    """Serve builds one per deployment, from `policy_kwargs`, and calls it at each of its control steps."""

    def __init__(self, per_replica: float) -> None:
        self._per_replica = per_replica

    def __call__(self, ctx: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        reported = (ctx.aggregated_metrics or {}).get("demand", {})
        if not reported:
            return ctx.target_num_replicas, {}
        lowest, highest = ctx.capacity_adjusted_min_replicas, ctx.capacity_adjusted_max_replicas
        return desired_replicas(sum(reported.values()), self._per_replica, lowest, highest), {}
