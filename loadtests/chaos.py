"""`serve-app chaos`: what the clients of a service notice when its parts are killed, frozen, replaced or filled.

Starts a service, of simulated engines unless `--config` names another, holds streams and an open loop of short
requests on it, and does one thing after another to it. Prints, for each, what was lost and why, the longest silence in
a stream, the seconds until the service was whole again, and what was left behind.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from loadtests.arguments import above_zero, whole
from loadtests.bench.peers.configured import ConfiguredModel
from loadtests.bench.peers.peer import DidNotServe
from loadtests.faults import injuries
from loadtests.faults.clients import Clients, LoadPlan
from loadtests.faults.findings import Finding, Span, finding, table
from loadtests.faults.injuries import Injury, NotPossible
from loadtests.faults.victim import Victim
from loadtests.faults.watch import CALM_S, LOOK_S, WholeWatch
from loadtests.results.about import about
from serve_app.config.errors import ConfigError
from serve_app.launching.environment import free_ports
from serve_app.planning.resolve import replica_bounds

SIMULATED: dict[str, Any] = {
    "models": [
        {
            "id": "sim",
            "engine": "simulated",
            "replicas": 4,
            "cpus": 0.1,
            "max_running": 64,
            "drain_timeout_s": 60,
            "simulated": {"step_base_ms": 20},
        }
    ],
    "ingress": {"replicas": 2, "cpus": 0.1},
}
"""What runs without `--config`."""
GONE_S = 150.0
"""How long a service is watched that is not to survive."""
SILENT_S = 15.0
"""One that has not answered for so long is gone."""
SETTLED_S = 120.0
"""The most that is waited for a service to be whole before the next fault."""
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """0 when all that was done met what is promised, 1 when something did not, 2 when it could not be asked."""
    args = _parser().parse_args(argv)
    try:
        wanted = injuries.chosen(args.faults)
        service, model, replicas = _service(args)
    except (ConfigError, NotPossible, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        victim = Victim(service, model, replicas, free_ports(1)[0], Path(folder), 0 if args.config else 1)
        plan = LoadPlan(model, args.streams, args.tokens, args.rate, args.api_key)
        try:
            with victim:
                _prepare(victim)
                with Clients(victim.url, plan) as clients, WholeWatch(victim) as watch:
                    for injury in wanted:
                        if (one := _done(injury, victim, clients, watch, args.patience_s)) is not None:
                            found.append(one)
                            print(table([one]).splitlines()[1], flush=True)
        except DidNotServe as error:
            print(str(error)[-2000:], file=sys.stderr)
        except KeyboardInterrupt:
            return INTERRUPTED
        finally:
            if args.json and found:
                asked = {key: value for key, value in vars(args).items() if key not in ("json", "api_key")}
                facts = {"about": about("asyncio", 1), "asked": asked, "found": [one.to_dict() for one in found]}
                args.json.write_text(json.dumps(facts, indent=1, default=str) + "\n")
    print("\n" + table(found))
    return 0 if found and all(one.passed for one in found) else 1


def _prepare(victim: Victim) -> None:
    print(f"{victim.url}: {victim.replicas} replicas of {victim.model}", flush=True)
    if victim.second_cpus:
        victim.join_second_node(victim.second_cpus)
        victim.spread()


def _done(injury: Injury, victim: Victim, clients: Clients, watch: WholeWatch, patience_s: float) -> Finding | None:
    """Do one thing, wait for its end, and tell what came of it; None where it cannot be done here."""
    watch.wait(SETTLED_S, time.time())
    before, began = victim.counts(), time.time()
    try:
        said = injury.act(victim) or ""
    except NotPossible as error:
        print(f"{injury.name}: not done: {error}", flush=True)
        return None
    if injury.survives:
        after_s = watch.wait(patience_s, began)
    else:
        after_s, said = None, _lasted(victim, began)
    _until(lambda: clients.longest_silence_s() < CALM_S, patience_s)
    _until(lambda: not _changes(before, victim.counts()), SETTLED_S / 6)
    left = _changes(before, victim.counts())
    if injury.heal is not None:
        said = "; ".join(filter(None, (said, injury.heal(victim))))
        watch.wait(SETTLED_S, time.time())
    span = Span(began, time.time(), after_s, left, said)
    return finding(injury, clients.told, span, victim.start_s)


def _lasted(victim: Victim, began: float) -> str:
    """How long a service goes on that is not to survive, for people."""
    answered = began
    while time.time() - answered < SILENT_S and time.time() - began < GONE_S:
        if victim.readiness() is not None:
            answered = time.time()
        time.sleep(LOOK_S)
    lasts = "it still answers" if time.time() - answered < SILENT_S else "it last answered"
    return f"{lasts} after {answered - began:.0f} s"


def _changes(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """Processes there are more or fewer, by kind."""
    found = {kind: after.get(kind, 0) - before.get(kind, 0) for kind in sorted(before.keys() | after.keys())}
    return {kind: count for kind, count in found.items() if count}


def _until(holds: Callable[[], bool], most_s: float) -> None:
    """Waits until something holds, or for so long."""
    until = time.time() + most_s
    while not holds() and time.time() < until:
        time.sleep(LOOK_S)


def _service(args: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    """The `args` of the application, the model that is asked, and how many replicas it should have."""
    if args.config is None:
        return SIMULATED, "sim", 4
    source = ConfiguredModel.find(args.config, args.model)
    return {**source.args, "models": [source.as_written]}, source.model.id, replica_bounds(source.model)[0]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serve-app chaos", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add(
        "faults",
        nargs="*",
        metavar="FAULT",
        help=f"what is done, in order: {', '.join(injuries.ALL)}; all unless given",
    )
    add("--config", type=Path, help="a configuration with real engines, instead of simulated ones on two nodes")
    add("--model", default="", help="the model of it to ask, by any of its names; the only one needs no name")
    add("--streams", type=whole(), default=64, help="streams that are held open")
    add("--tokens", type=whole(), default=200, help="tokens of each")
    add("--rate", type=above_zero(), default=4.0, help="short requests beside them, 1/s")
    add("--patience-s", type=above_zero(), default=150.0, help="how long a service may take to be whole again")
    add("--api-key", default="", help="sent as a bearer token")
    add("--json", type=Path, help="write all figures here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
