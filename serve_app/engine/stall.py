"""Finds an engine that is alive and takes no step: its process is frozen, or waits for a GPU that does not answer.

How long a step may take follows from how long the engine's own have lately taken: a step with a long prompt in it is no
death, and the first of its kind may be the longest so far.
"""

from __future__ import annotations

from serve_app.replica.fading import FadingMaximum

LEAST_S = 120.0
"""No engine counts as stalled that took a step less than this ago,"""
STEPS = 20.0
"""or less than so many of its longest steps lately."""
HALVED_S = 3600.0
"""A long step counts half after so long."""


class StallWatch:
    """Told of an engine's steps. Reads no clock: times are seconds on the caller's."""

    def __init__(self) -> None:
        self._stepped_at: float | None = None
        """None while it has nothing to do."""
        self._steps = FadingMaximum(HALVED_S)
        """How long they took, s."""

    def stepped(self, now: float) -> None:
        """The engine has told of a step."""
        if self._stepped_at is not None:
            self._steps.add(now - self._stepped_at, now)
        self._stepped_at = now

    def failure(self, now: float, busy: bool) -> str | None:
        """Why the engine can serve no longer, or None; `busy` is whether it has any request."""
        if not busy:
            self._stepped_at = None
            return None
        if self._stepped_at is None:
            self._stepped_at = now
        silent_s = now - self._stepped_at
        if silent_s < max(LEAST_S, STEPS * self._steps.at(self._stepped_at)):
            return None
        return f"the engine has taken no step for {silent_s:.0f} s"
