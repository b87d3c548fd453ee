"""The models of this service by every name they have, each with its pool of replicas and its adapters."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from serve_app.adapters.adapter import Adapter, listed
from serve_app.config.keys import UNNAMED, KeyConfig
from serve_app.config.schema import ModelConfig
from serve_app.http.errors import ApiError
from serve_app.routing.pool import ReplicaPool

MOST_NAME_CHARACTERS = 200
"""Of a model's name in an error. A longer one is compared with none: that costs seconds for a megabyte."""
MOST_NAMES = 256
"""That a wrong name is compared with, and that an error tells: 5 ms."""


@dataclass(frozen=True, slots=True)
class Served:
    """One model and the replicas that serve it."""

    config: ModelConfig
    pool: ReplicaPool


@dataclass(frozen=True, slots=True)
class Target:
    """What a name stands for: a model, or one of its adapters."""

    served: Served
    adapter: Adapter | None = None

    @property
    def wrong(self) -> str | None:
        """Why it cannot be used; None where nothing is known to be wrong."""
        return self.adapter.wrong if self.adapter else None

    def is_open(self, owner: KeyConfig) -> bool:
        """Whether a key may use it. An adapter is open to who may use it or the model it is of."""
        own = (self.adapter.id,) if self.adapter else ()
        return owner.models is None or not set(owner.models).isdisjoint((*self.served.config.names, *own))


class Catalogue:
    """Finds a model by its id or an alias, and an adapter by its id."""

    def __init__(self, served: Iterable[Served]) -> None:
        self.models = tuple(served)
        self._models = {name: Target(one) for one in self.models for name in one.config.names}
        self._adapters: dict[str, Target] = {}
        self._of_models: dict[str, tuple[Adapter, ...]] = {}
        """What was set, by the model's id."""
        for one in self.models:
            self.set_adapters(one, listed(one.config.adapters))

    def set_adapters(self, served: Served, adapters: Iterable[Adapter]) -> None:
        """These are the model's from now on. A name that a model has stays the model's.

        Two models may look for adapters in one directory: of two with one name, the one that can be used counts.
        """
        self._of_models[served.config.id] = tuple(one for one in adapters if one.id not in self._models)
        found: dict[str, Target] = {}
        for one in self.models:
            for adapter in self._of_models.get(one.config.id, ()):
                if adapter.id not in found or (adapter.wrong is None and found[adapter.id].wrong is not None):
                    found[adapter.id] = Target(one, adapter)
        self._adapters = found

    def adapters(self, owner: KeyConfig = UNNAMED) -> Sequence[Target]:
        """Those that a key may use."""
        return [one for one in self._adapters.values() if one.is_open(owner)]

    def known(self, name: str) -> Target | None:
        """What a name stands for, whoever asks."""
        return self._models.get(name) or self._adapters.get(name)

    def open_to(self, owner: KeyConfig) -> Sequence[Served]:
        """The models that a key may use."""
        return [one for one in self.models if Target(one).is_open(owner)]

    def served(self, name: str | None, owner: KeyConfig = UNNAMED) -> Served:
        """The model of what `target` finds. Raises ApiError."""
        return self.target(name, owner).served

    def target(self, name: str | None, owner: KeyConfig = UNNAMED) -> Target:
        """What a request of this key's names, or the only model when it names none. Raises ApiError."""
        if name:
            return self.find(name, owner)
        if len(found := self.open_to(owner)) == 1:
            return Target(found[0])
        message = f"the request names no model, and several are served: {self._told(owner)}"
        raise ApiError(400, message, "model", "missing_model")

    def find(self, name: str, owner: KeyConfig = UNNAMED) -> Target:
        """Raises ApiError 404 naming what there is for this key: it is not told what others use."""
        if (found := self.known(name)) is not None and found.is_open(owner):
            return found
        shown = name if len(name) <= MOST_NAME_CHARACTERS else name[:MOST_NAME_CHARACTERS] + "..."
        known = islice(self._names(owner), MOST_NAMES)
        close = difflib.get_close_matches(name, known, n=1) if shown is name else None
        hint = f" Did you mean {close[0]!r}?" if close else ""
        message = f"the model {shown!r} does not exist.{hint} Served here: {self._told(owner)}"
        raise ApiError(404, message, param="model", code="model_not_found")

    def _told(self, owner: KeyConfig) -> str:
        return ", ".join(map(repr, islice(self._names(owner), MOST_NAMES)))

    def _names(self, owner: KeyConfig) -> Iterator[str]:
        for served in self.open_to(owner):
            yield from served.config.names
        yield from (name for name, one in self._adapters.items() if one.is_open(owner))
