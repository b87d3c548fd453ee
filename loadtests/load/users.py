"""The two kinds of Locust users: one that waits for its answers, and one that keeps to a schedule whatever they do."""

from __future__ import annotations

from collections.abc import Iterator
from random import expovariate
from time import perf_counter
from typing import ClassVar

from locust import User, task
from locust.exception import StopUser

from loadtests.load.session import Session


class Sender(User):
    """A user of this process's session."""

    abstract = True
    session: ClassVar[Session]
    """Of the test that runs; set when it starts."""


class Closed(Sender):
    """Asks, waits for the whole answer, thinks, and asks again."""

    def on_start(self) -> None:
        self.session.wait_for_beginning()

    def wait_time(self) -> float:
        mean = self.session.options.think_s
        return expovariate(1 / mean) if mean > 0 else 0.0

    @task
    def ask(self) -> None:
        self.session.send()


class Arrivals(Sender):
    """The schedule of an open loop; there is one in each process.

    The pause between requests is Locust's own, so that the user can be stopped in it.
    """

    def on_start(self) -> None:
        self._due: Iterator[tuple[int, float]] = self.session.arrivals()
        self._next = next(self._due, None)

    def wait_time(self) -> float:
        return max(0.0, self._next[1] - perf_counter()) if self._next else 0.0

    @task
    def send_what_is_due(self) -> None:
        while self._next and self._next[1] <= perf_counter():
            self.session.spawn(*self._next)
            self._next = next(self._due, None)
        if self._next is None:
            self.session.drain()
            raise StopUser

    def on_stop(self) -> None:
        self.session.drain(self.environment.stop_timeout)
