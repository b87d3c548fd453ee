"""Locust's load shape: how many users there are at each moment, and when a test ends."""

from __future__ import annotations

import logging
from typing import Any

from locust import LoadTestShape

from loadtests.arguments import BadSpec
from loadtests.loadgen.options import Options
from loadtests.loadgen.users import ClosedLoopUser, OpenLoopUser

START_DELAY_S = 1.0
"""From the start of a test until its first request: all processes have heard of it by then."""
SPAWN_RATE = 100.0
"""Users a second, of each process."""
Tick = tuple[int, float, list[type[Any]] | None] | None


class LoadShape(LoadTestShape):
    """Follows --traffic (one schedule a process), --shape (users over time) or Locust's own --users and --run-time.

    At the end the users are asked to stop, and the test ends when they have, so that every request has its end.
    """

    use_common_options = True

    def reset_time(self) -> None:
        super().reset_time()
        self._options: Options | None = None
        self._ending = False
        self._workers = 0

    def tick(self) -> Tick:
        runner, parsed = self._runner, self._runner.environment.parsed_options
        try:
            self._options = self._options or Options.of(parsed)
        except BadSpec as error:
            logging.error(str(error))
            return None
        options = self._options
        at = self.get_run_time() - START_DELAY_S
        # Those that were told of the test: a worker that joins or leaves changes no one else's share.
        self._workers = workers = self._workers or max(1, runner.worker_count)
        kind: type[Any] = OpenLoopUser if options.traffic else ClosedLoopUser
        if self._ending or at >= self._end_s(options):
            self._ending = True
            gone = runner.user_count == 0
            return None if gone else (0, SPAWN_RATE * workers, [kind])
        if options.traffic:
            # Users of a schedule leave by themselves when it is done.
            if at > options.traffic.duration_s and runner.user_count == 0:
                return None
            return workers, SPAWN_RATE * workers, [kind]
        if options.shape:
            return round(options.shape.rate_at(max(0.0, at))), SPAWN_RATE * workers, [kind]
        return parsed.num_users or 1, parsed.spawn_rate or 1.0, [kind]

    @property
    def _runner(self) -> Any:
        """Of any kind but a worker's, with parsed options: those that run shapes."""
        return self.runner

    def _end_s(self, options: Options) -> float:
        """When users are asked to stop: at the run time, or where a shape of users ends."""
        limit = float(self._runner.environment.parsed_options.run_time or "inf")
        return min(limit, options.shape.duration_s) if options.shape else limit
