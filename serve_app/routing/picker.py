"""What a routing policy is: it picks the replica that answers a request, of those that have room.

A policy is a class in a file of `serve_app.routing.pickers`, and a name in the table there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

from starlette.types import Scope

from serve_app.routing.head import RequestHead
from serve_app.routing.random_set import RandomSet
from serve_app.routing.replica import Replica

Key = tuple[int, int]
"""What a request shares with others, as two 64-bit hashes: of where it belongs, and of where it goes when that is
crowded."""
Placed = Literal["home", "second", "spilled", "none"]
"""Where a request with a key went: where it belongs, to its second place, to neither. "none" had no key."""


class Picker(Protocol):
    """One model's routing policy in one process; all calls come on its event loop."""

    placed: dict[Placed, int]
    """Requests handed out so far, by place."""

    @property
    def affine(self) -> bool:
        """Whether it makes a difference which key a request has."""
        ...

    def key(self, scope: Scope, head: RequestHead) -> Key | None:
        """What the request shares with others; None if that makes no difference to this policy."""
        ...

    def update(self, replicas: Mapping[str, Replica]) -> None:
        """Take over the model's replicas by id, those without room among them. Comes with every announcement."""
        ...

    def pick(
        self,
        room: RandomSet[Replica],
        usable: Callable[[Replica], bool],
        key: Key | None,
        adapter: str | None = None,
    ) -> Replica | None:
        """One of `room` that is `usable`, None if there is none.

        `room` are the replicas that would take at least one more sequence; `adapter` is the id of the adapter that the
        request is for.
        """
        ...


def no_requests_placed() -> dict[Placed, int]:
    """The count of a picker that has handed out nothing."""
    return {"home": 0, "second": 0, "spilled": 0, "none": 0}
