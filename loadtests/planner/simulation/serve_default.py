"""Ray Serve 2.60's default autoscaling policy, called as Serve's controller calls it, in virtual time.

The policy itself is public (`ray.serve.autoscaling_policy`); what the controller does around it is in
`serve_app.compat.autoscaling_delays`. `scalers.serve` imports this module only when it is asked for: it loads Ray.
"""

from __future__ import annotations

from typing import Any

from ray.serve.autoscaling_policy import default_autoscaling_policy
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from serve_app.compat.autoscaling_delays import apply_factors_and_delays
from serve_app.config.schema import Autoscaling


class ServeDefaultPolicy:
    """Decides for one deployment; remembers since when it has wanted a change."""

    def __init__(self, bounds: Autoscaling, target: float, upscale_delay_s: float, downscale_delay_s: float) -> None:
        """`target` is Serve's `target_ongoing_requests` of one replica; of `bounds` only the bounds are used."""
        self._config = AutoscalingConfig(
            min_replicas=bounds.min_replicas,
            max_replicas=bounds.max_replicas,
            target_ongoing_requests=target,
            upscale_delay_s=upscale_delay_s,
            downscale_delay_s=downscale_delay_s,
        )
        self._state: dict[str, Any] = {}

    def decide(self, at_s: float, ready: int, target: int, requests: float) -> int:
        """Replicas wanted from `at_s` on, where `ready` run, `target` were ordered and `requests` were open, as a mean
        over Serve's look-back period."""
        context = AutoscalingContext(
            deployment_id=None,
            deployment_name="",
            app_name=None,
            current_num_replicas=ready,
            target_num_replicas=target,
            running_replicas=[],
            total_num_requests=requests,
            total_queued_requests=None,
            aggregated_metrics=None,
            raw_metrics=None,
            capacity_adjusted_min_replicas=self._config.min_replicas,
            capacity_adjusted_max_replicas=self._config.max_replicas,
            policy_state=self._state,
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=at_s,
            config=self._config,
        )
        wanted, _ = default_autoscaling_policy(context)
        if ready:
            wanted, self._state = apply_factors_and_delays(wanted, ready, target, self._config, self._state, at_s)
        return int(max(self._config.min_replicas, min(self._config.max_replicas, wanted)))
