"""The two kinds of Locust users: one that waits for its answers, and one that keeps to a schedule whatever they do."""

from __future__ import annotations

from random import expovariate
from time import perf_counter
from typing import ClassVar

from gevent.event import Event
from locust import User, task
from locust.exception import StopUser

from loadtests.loadgen.session import Session


class SessionUser(User):
    """A user whose requests the process's session makes and sends."""

    abstract = True
    session: ClassVar[Session]
    """Of the test that runs; set when it starts."""


class ClosedLoopUser(SessionUser):
    """Sends a request, waits for its whole answer, pauses, and sends the next.

    It pauses in its task: Locust kills a user in its own pause, and may hit it as it begins the next request.
    """

    def on_start(self) -> None:
        self._leaving = Event()
        self.session.wait_for_beginning()

    @task
    def ask(self) -> None:
        mean = self.session.options.think_s
        while not self._leaving.is_set():
            self.session.send()
            self._leaving.wait(expovariate(1 / mean) if mean > 0 else 0.0)
        raise StopUser

    def stop(self, force: bool = False) -> bool:
        """Locust's: True when the user has been killed, False when it is to leave after its request."""
        self._leaving.set()
        return bool(super().stop(force=True)) if force else False


class OpenLoopUser(SessionUser):
    """Sends requests when they are due, whatever becomes of those before; each process has one such user.

    The pause between requests is Locust's own, so that the user can be stopped in it.
    """

    def on_start(self) -> None:
        self._next = next(self.session.arrivals, None)

    def wait_time(self) -> float:
        return max(0.0, self._next[1] - perf_counter()) if self._next else 0.0

    @task
    def send_what_is_due(self) -> None:
        while self._next and self._next[1] <= perf_counter():
            self.session.spawn(*self._next)
            self._next = next(self.session.arrivals, None)
        if self._next is None:
            self.session.drain()
            raise StopUser

    def on_stop(self) -> None:
        self.session.drain(self.environment.stop_timeout)
