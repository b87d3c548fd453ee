"""`serve-app up CONFIG`: start a service here, show how it comes up, stop it on Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from serve_app.compat.serve_log import MILESTONES, NODE_TOO_SLOW
from serve_app.config.serve_keys import HIGHEST_PORT
from serve_app.launching import down, launches, log, settings
from serve_app.launching.mps import Mps
from serve_app.launching.service import Readiness, Service
from serve_app.launching.signals import Stop, on_signals, raise_stop

POLL_S = 0.3
TALLY_S = 5.0
"""How often the processes are counted, so that none is forgotten."""


class Console:
    """What the person at the terminal reads: a line for each step, with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._ready: dict[str, int] = {}
        self.answered = False

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._began:5.1f} s] {text}", flush=True)

    def steps(self, service: Service) -> None:
        """What the log has to say since the last time."""
        lines = service.log.news()
        for line in lines:
            for sign, text in MILESTONES.items():
                if sign in line and not self.answered:
                    self.say(text)
        for text in service.log.fresh(filter(None, map(log.important, lines))):
            self.say(f"! {text}")

    def models(self, state: Readiness) -> None:
        """Replicas that came or went."""
        if not self.answered:
            self.answered = True
            self.say(f"the ingress answers; starting {', '.join(state.models)}")
        for model, count in state.models.items():
            if count["ready"] != self._ready.get(model, 0):
                self._ready[model] = count["ready"]
                self.say(f"{model}: {count['ready']} of {count['wanted']} ready")


def main(argv: Sequence[str] | None = None) -> int:
    """Run until Ctrl-C; 0 after a stop that was asked for, 1 when it could not start or ended by itself."""
    parser = argparse.ArgumentParser(prog="serve-app up", description="Start a service on this machine.")
    parser.add_argument("config", type=Path, help="a configuration, such as configs/demo.yaml")
    parser.add_argument("--port", type=_port, help="HTTP port, instead of the configuration's")
    parser.add_argument("--mps", action="store_true", help="let engines packed on a GPU use it at the same moment")
    parser.add_argument("--replace", action="store_true", help="first end the service that `up` started on this port")
    args = parser.parse_args(argv)
    on_signals(raise_stop)
    launches.sweep()
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
    return _run_and_stop(service, folder)


def _prepared(args: argparse.Namespace, folder: Path) -> Service:
    cluster = settings.chosen_cluster()
    services = settings.check(args.config, elsewhere=cluster is not None)
    wanted = settings.prepare(args.config, args.port, folder)
    if cluster is not None and args.mps:
        raise settings.CannotStart("--mps is for a Ray started here: on a cluster, start MPS on each node before Ray")
    if cluster is not None:
        print(
            f"Using the Ray cluster at {cluster}: its applications are replaced, and its own ports and settings hold."
        )
    else:
        if args.replace and (there := launches.on_port(wanted.port)):
            print(f"ending {there}", flush=True)
            down.end(there, now=False, say=_say)
        settings.check_port(wanted)
        if nearby := settings.nearby_cluster():
            print(f"Leaving the Ray cluster at {nearby} alone; RAY_ADDRESS={nearby} would deploy to it.")
    return Service(wanted, folder, cluster, services, Mps(folder) if args.mps else None)


def _run_and_stop(service: Service, folder: Path) -> int:
    console = Console()
    status = 1
    try:
        status = _run(service, console)
    except settings.CannotStart as error:
        print(error, file=sys.stderr)
    except Stop:
        status = 0
    finally:
        _stop(service, console)
        _tidy(folder, service.log.path if status else None)
    return status


def _run(service: Service, console: Console) -> int:
    console.say(f"starting {service.settings.config.name}; log: {service.log.path}")
    service.start()
    state = _until_ready(service, console)
    if state is None and any(NODE_TOO_SLOW in line for line in service.log.recent):
        console.say("Ray did not start in time: this machine is busy; starting it once more")
        service.sweep(3.0)
        service.start()
        state = _until_ready(service, console)
    if state is None:
        why = service.log.failures.repeated(service.replicas) or service.log.reason()
        print(f"\nThe service did not start:\n{why}\n\nThe whole log: {service.log.path}\n", file=sys.stderr)
        return 1
    console.say(f"ready: {service.settings.url}")
    print(
        f"\nTry it:\n\n{example(service.settings.url, next(iter(state.models), ''))}\n\nCtrl-C stops it.\n", flush=True
    )
    _until_ended(service, console)
    print(
        f"\nThe service ended by itself ({service.ending}):\n{service.log.reason(log.ENDING_S)}\n\n"
        f"The whole log: {service.log.path}\n",
        file=sys.stderr,
    )
    return 1


def _until_ready(service: Service, console: Console) -> Readiness | None:
    """None where it failed."""
    counted = time.monotonic()
    while True:
        ended = service.ended
        console.steps(service)
        if ended or service.log.failed or service.log.failures.repeated(service.replicas):
            return None
        if state := service.readiness():
            console.models(state)
            if state.ready:
                return state
        if time.monotonic() - counted > TALLY_S:
            counted = time.monotonic()
            service.family.members()
        time.sleep(POLL_S)


def _until_ended(service: Service, console: Console) -> None:
    while not service.ended:
        console.steps(service)
        if state := service.readiness():
            console.models(state)
        service.family.members()
        for _ in range(int(TALLY_S / POLL_S)):
            if service.ended:
                break
            time.sleep(POLL_S)
    console.steps(service)


def _stop(service: Service, console: Console) -> None:
    """Politely first; at once when asked again."""
    began = time.monotonic()
    patience_s = 3.0
    try:
        print(flush=True)
        console.say("stopping; once more to kill")
        service.stop(console.say)
    except Stop:
        patience_s = 0.0
    on_signals(signal.SIG_IGN)
    left = service.sweep(patience_s)
    outcome = f"these processes would not end: {left}" if left else "nothing is left running"
    console.say(f"stopped in {time.monotonic() - began:.1f} s; {outcome}")


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
