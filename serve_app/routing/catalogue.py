"""The models of this service by every name they have, each with its pool of replicas."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

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

    def served(self, name: str | None) -> Served:
        """The model a request names, or the only one when it names none. Raises ApiError."""
        if name:
            return self.find(name)
        if len(self.models) == 1:
            return self.models[0]
        raise ApiError(
            400, f"the request names no model, and several are served: {self._names()}", "model", "missing_model"
        )

    def find(self, name: str) -> Served:
        """Raises ApiError 404 naming what there is."""
        if (served := self._by_name.get(name)) is not None:
            return served
        shown = name if len(name) <= MOST_NAME_CHARACTERS else name[:MOST_NAME_CHARACTERS] + "..."
        close = difflib.get_close_matches(name, self._by_name, n=1) if shown is name else None
        hint = f" Did you mean {close[0]!r}?" if close else ""
        message = f"the model {shown!r} does not exist.{hint} Served here: {self._names()}"
        raise ApiError(404, message, param="model", code="model_not_found")

    def _names(self) -> str:
        return ", ".join(repr(name) for name in self._by_name)
