"""The greatest of what was lately seen, which counts less the older it is."""

from __future__ import annotations


class FadingMaximum:
    """Of values from 0 on. Reads no clock: times are seconds on the caller's."""

    def __init__(self, halved_s: float) -> None:
        """A value counts half after so long."""
        self._halved_s = halved_s
        self._value = 0.0
        self._at = 0.0

    def add(self, value: float, now: float) -> None:
        """It was seen now."""
        self._value, self._at = max(value, self.at(now)), now

    def at(self, now: float) -> float:
        """What counts at a time; 0 where nothing was seen."""
        return self._value * 0.5 ** ((now - self._at) / self._halved_s)
