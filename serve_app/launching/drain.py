"""Letting open requests end before a service stops.

HAProxy is told to take no new connection, to close idle ones, and to go when the last request has its answer. Serve's
controller and HAProxy's manager are halted meanwhile: they would take a silent HAProxy for a dead one and replace it,
and no request needs them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable

import psutil

from serve_app.launching.processes import Family, title

POLL_S = 0.2
TOLD_EVERY_S = 15.0
CONTROLLER = "ray::ServeController"
MANAGER = "ray::HAProxyManager"


def drain(family: Family, timeout_s: float, say: Callable[[str], None]) -> None:
    """Return when every open request of a launch has ended, when the time is over, or at once without HAProxy."""
    members = family.members()
    halted = [pid for pid in members if title(pid).startswith((CONTROLLER, MANAGER))]
    if not (open_ := _haproxies(members)):
        # A launcher that was killed in the midst of this may have left them halted.
        _send(signal.SIGCONT, halted)
        return
    say(f"no new requests; open ones may take {timeout_s:g} s to end")
    began = told = time.monotonic()
    asked: set[int] = set()
    _send(signal.SIGSTOP, halted)
    try:
        while open_ and time.monotonic() - began < timeout_s:
            _send(signal.SIGUSR1, set(open_) - asked)
            asked |= set(open_)
            time.sleep(POLL_S)
            open_ = _haproxies(family.members())
            if time.monotonic() - told > TOLD_EVERY_S:
                told = time.monotonic()
                say(f"requests are open still; {max(0.0, timeout_s - (told - began)):.0f} s left for them")
        say("some requests were cut off" if open_ else "every open request has ended")
    finally:
        # The manager would start the next HAProxy.
        _send(signal.SIGKILL, [pid for pid in halted if title(pid).startswith(MANAGER)])
        _send(signal.SIGCONT, halted)


def _haproxies(members: Iterable[int]) -> list[int]:
    return [pid for pid in members if _executable(pid) == "haproxy"]


def _executable(pid: int) -> str:
    with contextlib.suppress(psutil.Error):
        return os.path.basename(psutil.Process(pid).exe())
    return ""


def _send(sign: signal.Signals, pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, sign)
