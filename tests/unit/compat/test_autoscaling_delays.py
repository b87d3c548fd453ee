"""Ray Serve's factors and delays of autoscaling, on a clock that is given."""

from __future__ import annotations

from typing import Any

from ray.serve.config import AutoscalingConfig

from serve_app.compat.autoscaling_delays import apply_factors_and_delays

CONFIG = AutoscalingConfig(max_replicas=8, upscaling_factor=0.5, upscale_delay_s=30, downscale_delay_s=600)


def test_a_wish_is_scaled_and_waits_for_its_delay() -> None:
    state: dict[str, Any] = {}
    for at_s, replicas in ((0.0, 2), (29.0, 2), (30.0, 4)):
        found, state = apply_factors_and_delays(6, 2, 2, CONFIG, state, at_s)
        assert found == replicas


def test_a_wish_that_is_given_up_waits_anew() -> None:
    state: dict[str, Any] = {}
    for at_s, wanted, replicas in ((0.0, 6, 2), (20.0, 2, 2), (40.0, 6, 2), (70.0, 6, 4)):
        found, state = apply_factors_and_delays(wanted, 2, 2, CONFIG, state, at_s)
        assert found == replicas
