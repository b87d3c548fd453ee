"""`serve-app up CONFIG`: start a service here, show how it comes up, stop it on Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from serve_app.config.serve_keys import HIGHEST_PORT
from serve_app.launching import down, launches, preflight, settings
from serve_app.launching.events import (
    Ended,
    Event,
    IngressAnswers,
    Milestone,
    Ready,
    ReplicaReady,
    StartedAgain,
    Trouble,
    line,
)
from serve_app.launching.local_service import LocalService
from serve_app.launching.mps import Mps
from serve_app.launching.signals import Stop, on_signals, raise_stop


class Terminal:
    """What the person at the terminal reads: a line for each step, with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._began:5.1f} s] {text}", flush=True)

    def show(self, event: Event) -> None:
        """Say what has happened."""
        match event:
            case Milestone():
                self.say(event.reached)
            case Trouble():
                self.say(f"! {event.text}")
            case IngressAnswers():
                self.say(f"the ingress answers; starting {', '.join(event.models)}")
            case ReplicaReady():
                self.say(f"{event.model}: {event.ready} of {event.wanted} ready")
            case StartedAgain():
                self.say("Ray did not start in time: this machine is busy; starting it once more")
            case Ready():
                self.say(f"ready: {event.url}")
                request = example(event.url, next(iter(event.models), ""))
                page = f"\nOpen {event.console} in a browser, or try it here:" if event.console else "\nTry it:"
                print(f"{page}\n\n{request}\n\nCtrl-C stops it.\n", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run until Ctrl-C; 0 after a stop that was asked for, 1 when it could not start or ended by itself."""
    parser = argparse.ArgumentParser(prog="serve-app up", description="Start a service on this machine.")
    parser.add_argument("config", type=Path, help="a configuration, such as configs/demo.yaml")
    parser.add_argument("--port", type=_port, help="HTTP port, instead of the configuration's")
    parser.add_argument("--mps", action="store_true", help="let engines packed on a GPU use it at the same moment")
    parser.add_argument("--replace", action="store_true", help="first end the service that `up` started on this port")
    parser.add_argument(
        "--events", type=Path, metavar="FILE", help="also write what happens here, a JSON object a line, for programs"
    )
    args = parser.parse_args(argv)
    on_signals(raise_stop)
    launches.sweep()
    try:
        preflight.folder_for_launches(launches.ROOT)
    except settings.CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    folder = Path(tempfile.mkdtemp(prefix=launches.PREFIX, dir=launches.ROOT))
    try:
        service = _prepared(args, folder)
    except settings.CannotStart as error:
        shutil.rmtree(folder)
        print(error, file=sys.stderr)
        return 1
    except Stop:
        shutil.rmtree(folder)
        return 0
    return _run_and_stop(service, folder, args.events)


def _prepared(args: argparse.Namespace, folder: Path) -> LocalService:
    cluster = settings.chosen_cluster()
    services = settings.check(args.config, elsewhere=cluster is not None)
    wanted = settings.prepare(args.config, args.port, folder)
    if cluster is not None and args.mps:
        raise settings.CannotStart("--mps is for a Ray started here: on a cluster, start MPS on each node before Ray")
    found = preflight.Preflight()
    if cluster is not None:
        print(
            f"Using the Ray cluster at {cluster}: its applications are replaced, and its own ports and settings hold."
        )
    else:
        if args.replace and (there := launches.on_port(wanted.port)):
            print(f"ending {there}", flush=True)
            down.end(there, now=False, say=_say)
        settings.check_port(wanted)
        found = preflight.look(services, args.mps)
        for notice in found.notices:
            print(f"! {notice}", flush=True)
        if nearby := settings.nearby_cluster():
            print(f"Leaving the Ray cluster at {nearby} alone; RAY_ADDRESS={nearby} would deploy to it.")
    return LocalService(wanted, folder, cluster, services, Mps(folder) if args.mps else None, found.variables)


def _run_and_stop(service: LocalService, folder: Path, events: Path | None) -> int:
    terminal = Terminal()
    status = 1
    try:
        status = _run(service, terminal, events)
    except settings.CannotStart as error:
        print(error, file=sys.stderr)
    except Stop:
        status = 0
    finally:
        _stop(service, terminal)
        _tidy(folder, service.log.path if status else None)
    return status


def _run(service: LocalService, terminal: Terminal, events: Path | None) -> int:
    """Until it has ended by itself; 1."""
    terminal.say(f"starting {service.settings.config.name}; log: {service.log.path}")
    service.start()
    ready = False
    with contextlib.ExitStack() as stack:
        record = stack.enter_context(events.open("w", encoding="utf-8", buffering=1)) if events else None
        for event in service.events():
            if record is not None:
                record.write(line(event))
            terminal.show(event)
            ready = ready or isinstance(event, Ready)
            if isinstance(event, Ended):
                how = f"ended by itself ({service.ending})" if ready else "did not start"
                print(f"\nThe service {how}:\n{event.reason}\n\nThe whole log: {service.log.path}\n", file=sys.stderr)
    return 1


def _stop(service: LocalService, terminal: Terminal) -> None:
    """Politely first; at once when asked again."""
    began = time.monotonic()
    patience_s = 3.0
    try:
        print(flush=True)
        terminal.say("stopping; once more to kill")
        service.stop(terminal.say)
    except Stop:
        patience_s = 0.0
    on_signals(signal.SIG_IGN)
    left = service.sweep(patience_s)
    outcome = f"these processes would not end: {left}" if left else "nothing is left running"
    terminal.say(f"stopped in {time.monotonic() - began:.1f} s; {outcome}")


def _tidy(folder: Path, keep: Path | None) -> None:
    """Remove what is left of a launch, but for the log of one that failed."""
    if keep is None:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path != keep:
            path.unlink(missing_ok=True)


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"should be from 1 to {HIGHEST_PORT}")
    return port


def _say(text: str) -> None:
    print(text, flush=True)


def example(url: str, model: str) -> str:
    """A line for the shell that asks `model` something."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "What is this service?"}]})
    return f"curl {url}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'"
