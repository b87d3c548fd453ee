"""`serve-app down [--port N] [--now]`: end a service that `up` started, whoever is left of it."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence

from serve_app.launching.launches import Launch, launches
from serve_app.launching.local_service import STOP_TIMEOUT_S, ServiceProcesses
from serve_app.launching.processes import Family, is_alive
from serve_app.launching.signals import Stop, on_signals, raise_stop

LAUNCHER_MARGIN_S = 30.0
"""For the launcher to end what its service leaves behind."""
NOTHING_FOUND = 1


def main(argv: Sequence[str] | None = None) -> int:
    """0 when it has ended, 1 when there is none or something would not end, 2 when it is not clear which is meant."""
    parser = argparse.ArgumentParser(prog="serve-app down", description="End a service on this machine.")
    parser.add_argument("--port", type=int, help="the HTTP port of the one to end; needed where several run")
    parser.add_argument("--now", action="store_true", help="cut open requests off")
    args = parser.parse_args(argv)
    found = [one for one in launches() if args.port in (None, one.port)]
    if not found:
        where = f" on port {args.port}" if args.port else ""
        print(f"no service that `up` started is running{where}", file=sys.stderr)
        return NOTHING_FOUND
    if len(found) > 1:
        print("several are running; say which with --port:", *found, sep="\n  ", file=sys.stderr)
        return 2
    print(f"ending {found[0]}", flush=True)
    on_signals(raise_stop)
    return 0 if end(found[0], args.now, lambda text: print(text, flush=True)) else 1


def end(launch: Launch, now: bool, say: Callable[[str], None]) -> bool:
    """End all processes of a launch and remove its folder; whether all are gone. Stop ends them at once."""
    family = Family(launch.id)
    family.members()
    try:
        if launch.has_launcher:
            _ask_launcher(launch, now)
        if not now:
            ServiceProcesses(family, launch.child, launch.drain_s).stop(say)
    except Stop:
        say("killing")
    left = family.end(3.0 if not now else 0.0)
    say(f"these processes would not end: {left}" if left else "it has ended; nothing of it is left running")
    if not left:
        shutil.rmtree(launch.folder, ignore_errors=True)
    return not left


def _ask_launcher(launch: Launch, now: bool) -> None:
    """The launcher lets open requests end by itself; asked twice, it does not."""
    pid, started = launch.launcher
    deadline = time.monotonic() + STOP_TIMEOUT_S + LAUNCHER_MARGIN_S + (0.0 if now else launch.drain_s)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        while now and is_alive(pid, started) and time.monotonic() < deadline:
            time.sleep(1.0)
            os.kill(pid, signal.SIGTERM)
        while is_alive(pid, started) and time.monotonic() < deadline:
            time.sleep(0.2)
        if is_alive(pid, started):
            os.kill(pid, signal.SIGKILL)
