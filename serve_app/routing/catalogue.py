"""The models of this service by every name they have, each with its pool of replicas."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from serve_app.config.keys import UNNAMED, KeyConfig
from serve_app.config.schema import ModelConfig
from serve_app.http.errors import ApiError
from serve_app.routing.pool import ReplicaPool

MOST_NAME_CHARACTERS = 200
"""Of a model's name in an error. A longer one is compared with none: that costs seconds for a megabyte."""


@dataclass(frozen=True, slots=True)
class Served:
    """One model and the replicas that serve it."""

    config: ModelConfig
    pool: ReplicaPool


class Catalogue:
    """Finds a model by its id or an alias."""

    def __init__(self, served: Iterable[Served]) -> None:
        self.models = tuple(served)
        self._by_name = {name: one for one in self.models for name in one.config.names}

    def open_to(self, owner: KeyConfig) -> Sequence[Served]:
        """The models that a key may use."""
        return [one for one in self.models if _is_open(one, owner)]

    def served(self, name: str | None, owner: KeyConfig = UNNAMED) -> Served:
        """The model a request of this key's names, or the only one when it names none. Raises ApiError."""
        if name:
            return self.find(name, owner)
        if len(found := self.open_to(owner)) == 1:
            return found[0]
        message = f"the request names no model, and several are served: {self._names(owner)}"
        raise ApiError(400, message, "model", "missing_model")

    def find(self, name: str, owner: KeyConfig = UNNAMED) -> Served:
        """Raises ApiError 404 naming what there is for this key: it is not told what others use."""
        served = self._by_name.get(name)
        if served is not None and _is_open(served, owner):
            return served
        shown = name if len(name) <= MOST_NAME_CHARACTERS else name[:MOST_NAME_CHARACTERS] + "..."
        known = [name for one in self.open_to(owner) for name in one.config.names]
        close = difflib.get_close_matches(name, known, n=1) if shown is name else None
        hint = f" Did you mean {close[0]!r}?" if close else ""
        message = f"the model {shown!r} does not exist.{hint} Served here: {self._names(owner)}"
        raise ApiError(404, message, param="model", code="model_not_found")

    def _names(self, owner: KeyConfig) -> str:
        return ", ".join(repr(name) for one in self.open_to(owner) for name in one.config.names)


def _is_open(served: Served, owner: KeyConfig) -> bool:
    return owner.models is None or not set(owner.models).isdisjoint(served.config.names)
