"""What a request wants of its model's replicas, and whose it is."""

from __future__ import annotations

from dataclasses import dataclass

from serve_app.routing.picker import Key


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request wants of its model's replicas, and whose it is."""

    sequences: int = 1
    """How many sequences it is."""
    key: Key | None = None
    """What it shares with other requests; None if that makes no difference."""
    batch: bool = False
    """Whether it is batch work, which waits behind other requests and is the first to go."""
    adapter: str | None = None
    """The id of the model's adapter that it is for; None where it is for the model itself."""
    client: str = ""
    """Among whom what there is is shared."""
    weight: float = 1.0
    """The client's, beside others'."""
    tokens: float = 1.0
    """What it is taken for until it is known what it took."""


ONE = Claim()
