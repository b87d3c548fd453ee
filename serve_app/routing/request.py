"""A request of which it is known who may answer it."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import Scope

from serve_app.config.keys import UNNAMED, KeyConfig
from serve_app.routing.body import RequestBody
from serve_app.routing.claim import Claim
from serve_app.routing.pool import ReplicaPool


@dataclass(frozen=True, slots=True)
class RoutedRequest:
    """A request, the replicas that may answer it, and what it wants of them."""

    scope: Scope
    """Its method and path, and the headers that go to the replica."""
    body: RequestBody
    pool: ReplicaPool
    """The replicas of its model."""
    claim: Claim
    owner: KeyConfig = UNNAMED
    """Whose request it is."""

    @property
    def adapter(self) -> str | None:
        """The id of the model's adapter that it is for; None where it is for the model itself."""
        return self.claim.adapter
