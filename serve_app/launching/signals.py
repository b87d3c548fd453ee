"""Being asked to stop: Ctrl-C, SIGTERM and a closed terminal are one thing."""

from __future__ import annotations

import signal


class Stop(Exception):
    """The user asked to stop."""


def on_signals(action: signal._HANDLER) -> None:
    """Do this when asked to stop."""
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, action)


def raise_stop(*_: object) -> None:
    """A handler that raises Stop."""
    raise Stop
