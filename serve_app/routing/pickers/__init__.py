"""Routing policies by the names that `routing_policy` of a model's configuration may have."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Protocol

from serve_app.routing.picker import Picker
from serve_app.routing.pickers.least_loaded import LeastLoaded
from serve_app.routing.pickers.prefix_affinity import PrefixAffinity


class PickerFactory(Protocol):
    """Makes the picker of one model's pool."""

    def __call__(self, rng: Random | None = None) -> Picker:
        """`rng` draws the replicas that are compared."""
        ...


PICKERS: Mapping[str, PickerFactory] = {"prefix_affinity": PrefixAffinity, "least_loaded": LeastLoaded}
