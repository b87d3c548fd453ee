"""Ray Serve's signature around the policy.

Serve counts no requests of this service (they do not pass through its handles); the demand is what replicas report
through `record_autoscaling_stats` and what waits in ingress processes and batches. Serve's own delays are off: the
policy has its own. What Serve unpickles here is this module by value, so whatever must be one of a kind lives in other
modules.
"""

from __future__ import annotations

import time
from typing import Any

from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from serve_app.autoscaling import queued, state
from serve_app.autoscaling.coming import StartupWatch
from serve_app.autoscaling.policy import Observation, Policy
from serve_app.autoscaling.standby import in_all
from serve_app.config.schema import Autoscaling
from serve_app.replica.protocol import LOOK_BACK_S, REPORT_PERIOD_S, ReplicaSignals

PERIOD_S = 0.5
"""Serve asks about ten times a second; replicas report, and what is queued is read, twice."""
HALF = 0.5
"""A replica's reports are means over LOOK_BACK_S: one that slept for most of that sleeps."""
WRITE_S = 1.0
"""How often a state that decides nothing new is written."""


def autoscaling_config(model: str, bounds: Autoscaling, max_running: int) -> AutoscalingConfig:
    """What Ray Serve is told of a model's deployment: bounds, and DemandPolicy to move between them.

    `model` is the model's id, `max_running` the sequences that one replica decodes at the same time.
    """
    initial = bounds.initial_replicas
    return AutoscalingConfig(
        min_replicas=bounds.min_replicas + bounds.standby,
        max_replicas=bounds.max_replicas,
        initial_replicas=None if initial is None else min(bounds.max_replicas, initial + bounds.standby),
        # The policy waits by itself, and sees what it waits for.
        upscale_delay_s=0.0,
        downscale_delay_s=0.0,
        metrics_interval_s=REPORT_PERIOD_S,
        look_back_period_s=LOOK_BACK_S,
        policy=AutoscalingPolicy(
            policy_function="serve_app.autoscaling.serve_policy:DemandPolicy",
            policy_kwargs={"model": model, "settings": bounds.model_dump(), "max_running": max_running},
        ),
    )


class DemandPolicy:
    """Serve builds one per deployment, from `policy_kwargs`, and calls it at each of its control steps."""

    def __init__(self, model: str, settings: dict[str, Any], max_running: int) -> None:
        self._model = model
        self._settings = Autoscaling.model_validate(settings)
        self._policy = Policy(self._settings, max_running)
        self._startup = StartupWatch(settings.get("startup_s"))
        self._store = queued.shared
        self._decided_at = self._written_at = float("-inf")
        self._replicas = 0
        """Wanted in all."""
        self._awake: int | None = None
        """Of those, wanted awake."""

    def __call__(self, ctx: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        now = time.monotonic()
        if now - self._decided_at >= PERIOD_S:
            self._decided_at = now
            self._decide(now, ctx)
        return self._replicas, {}

    def _decide(self, now: float, ctx: AutoscalingContext) -> None:
        app, settings = ctx.app_name or "", self._settings
        outside, told = self._store.outside(app, self._model), signals(ctx)
        up = tuple(one for one in told if one.asleep < HALF)
        target = ctx.target_num_replicas
        awake = max(settings.min_replicas, target - settings.standby) if self._awake is None else self._awake
        if settings.standby:
            # Those that requests have woken were needed; without sleepers Serve's count says what was wanted.
            target = max(awake, len(up))
        seen = Observation(now, up, target, outside.queued, outside.refused_per_s)
        decision = self._policy.decide(seen)
        bounds = ctx.capacity_adjusted_min_replicas, ctx.capacity_adjusted_max_replicas
        at, present, past = time.time(), *state.keys(app, self._model)
        before = ctx.target_num_replicas if self._written_at < 0 else self._replicas
        self._awake = decision.replicas
        self._replicas = in_all(settings, decision.replicas, len(up), before)
        counts = state.Counts(ctx.current_num_replicas, len(told) - len(up), self._replicas)
        ready_in_s = self._startup.ready_in_s(now, self._replicas, counts.ready)
        if self._replicas != before:
            change = {"at": round(at, 3), "from": before, "to": self._replicas, "reason": decision.reason}
            self._store.write(past, state.changed(past, change))
        if self._replicas != before or awake != self._awake or now - self._written_at >= WRITE_S:
            self._written_at = now
            self._store.write(present, state.describe(at, seen, decision, bounds, counts, ready_in_s))


def signals(ctx: AutoscalingContext) -> tuple[ReplicaSignals, ...]:
    """What the replicas that have reported say, as means over Serve's `look_back_period_s`."""
    metrics = ctx.aggregated_metrics or {}
    names = ReplicaSignals.__slots__
    reported = metrics.get(names[0], {})
    return tuple(ReplicaSignals(**{name: metrics[name][replica] for name in names}) for replica in reported)
