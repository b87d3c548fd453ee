"""What of a request's way is told to whoever traces it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from serve_app.routing.replica import Replica
from serve_app.routing.request import RoutedRequest

Header = tuple[bytes, bytes]


class Outcome(Protocol):
    """What became of a request."""

    @property
    def status(self) -> int:
        """Of its answer; 0 where none has begun."""
        ...

    @property
    def broken(self) -> bool:
        """Whether its answer was cut off by a replica's failure."""
        ...

    @property
    def first_byte_s(self) -> float | None:
        """From its arrival to the first byte of its answer."""
        ...


class RequestTrace(Protocol):
    """Of one request, from its arrival."""

    def attempt(self, replica: Replica, events: int) -> AbstractContextManager[list[Header]]:
        """While this replica has the request, whose client has so many events of its answer; the headers that go to
        the replica. Sees whatever is raised in it."""
        ...

    def end(self, outcome: Outcome, error: BaseException | None) -> None:
        """The request has ended, by what was raised if by anything."""
        ...


class Tracer(Protocol):
    """Decides which requests are traced."""

    def begin(self, request: RoutedRequest) -> RequestTrace | None:
        """None for a request that is not."""
        ...
