"""`serve-app prove CONFIG ...`: what becomes of a configuration, as it stands, under a traffic.

Each configuration is started in turn, with the model that is asked alone, and the traffic put on it, while its pages
are probed as an orchestrator does.
Prints what was lost, how soon it refused what it did not take, whether its pages answered, and from when on its
requests were within the SLO. `--kill-at` takes an engine away in the middle.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtests.arguments import BadSpec, above_zero, whole
from loadtests.bench.peers.configured import ConfiguredModel, configured
from loadtests.bench.peers.peer import ENGINE, DidNotServe, RunningPeer
from loadtests.loadgen import lengths, options, scenarios, traffic
from loadtests.loadgen.locust_run import LocustFailed
from loadtests.planner.proof import verdict
from loadtests.planner.proof.idle import IdleConnections
from loadtests.planner.proof.kill import EngineKill
from loadtests.planner.proof.probes import Probes
from loadtests.planner.proof.verdict import Proof
from loadtests.planner.tuning.measure import RequestSpec, ServiceUnderTest
from loadtests.results.about import about
from loadtests.results.plots import over_time, style
from loadtests.results.plots.over_time import ObservedRun
from loadtests.results.slo import Slo
from serve_app.config.errors import ConfigError
from serve_app.config.names import deployment
from serve_app.launching.environment import free_ports
from serve_app.planning.resolve import replica_bounds

MARKS = {True: "pass", False: "FAIL", None: "    "}
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """0 when every configuration passed, 1 when one did not or could not be measured."""
    args = _parser().parse_args(argv)
    try:
        asked = _question(args)
        sources = [ConfiguredModel.find(config, args.model) for config in args.configs]
    except (BadSpec, ConfigError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    facts: dict[str, Any] = {"asked": asked, "about": about("Locust", 1), "runs": {}}
    shown: list[ObservedRun] = []
    try:
        for source in sources:
            name = source.path.stem
            try:
                found, run = _one(args, source)
            except (DidNotServe, LocustFailed) as error:
                print(f"{name}: not measured: {str(error)[-2000:]}", file=sys.stderr)
                facts["runs"][name] = {"passed": False, "failed": str(error)[-2000:]}
                continue
            shown.append(run)
            facts["runs"][name] = _facts(found, run)
            print(_text(name, found), flush=True)
    except KeyboardInterrupt:
        print("stopped; what was measured is kept", file=sys.stderr)
        return INTERRUPTED
    finally:
        if args.json and facts["runs"]:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(facts, indent=1) + "\n")
        if args.plot and shown:
            style.png(over_time.replays(shown, traffic.parse(args.traffic), Slo.parse(args.slo)), args.plot)
    passed = [
        all(one["passed"] is not False for one in run.get("checks", [{"passed": False}]))
        for run in facts["runs"].values()
    ]
    return 0 if all(passed) else 1


def _one(args: argparse.Namespace, source: ConfiguredModel) -> tuple[Proof, ObservedRun]:
    """Start one configuration, put the traffic on it, stop it."""
    shape, slo, model = traffic.parse(args.traffic), Slo.parse(args.slo), source.model
    title = f"ray::ServeReplica:lfm2:{deployment(model.id)}"
    fewest = replica_bounds(model)[0]
    spec = RequestSpec(model.id, args.lengths, args.scenario, args.seed, slo, args.api_key, asked=args.ask)
    with tempfile.TemporaryDirectory(prefix="prove-") as name, ExitStack() as stack:
        folder = Path(name)
        mps = ["--mps"] if args.mps else []
        peer = configured(source.path.stem, source, source.as_written, free_ports(1)[0], folder, fewest, *mps)
        running = stack.enter_context(RunningPeer(peer, source.setup, folder))
        print(f"{peer.name}: ready; {args.traffic}", flush=True)
        service = ServiceUnderTest(running, spec, folder, args.clients)
        stack.enter_context(IdleConnections(peer.url, args.idle))
        probes = stack.enter_context(Probes(peer.url))
        kill = None
        if args.kill_at:
            engine = title if model.engine == "simulated" else ENGINE
            kill = stack.enter_context(EngineKill(running, engine, args.kill_at))
        replayed = service.replay(args.traffic, folder / "records.jsonl", title)
        answers = list(probes.answers)
    found = verdict.proof(
        replayed.records,
        replayed.samples,
        answers,
        traffic=shape,
        slo=slo,
        startup_s=args.startup_s,
        killed_at_s=kill.at - replayed.began if kill and kill.at else None,
        overload=args.overload,
    )
    excused = [(at, at + found.excused_s) for at in found.jumps]
    return found, ObservedRun(source.path.stem, replayed.records, replayed.samples, excused=excused)


def _text(name: str, found: Proof) -> str:
    lines = [f"\n{name}: {found.requests:,} requests, {found.answered:,} answered"]
    for one in verdict.checks(found):
        limit = "" if one.limit == "-" else f" ({one.limit})"
        lines.append(f"  {MARKS[one.passed]}  {one.name}: {one.value}{limit}")
    return "\n".join(lines)


def _facts(found: Proof, run: ObservedRun) -> dict[str, Any]:
    """One configuration's part of the JSON."""
    checks = verdict.checks(found)
    return {
        "passed": all(one.passed is not False for one in checks),
        "checks": [asdict(one) for one in checks],
        "proof": found.to_dict(),
        "replicas": [one.to_dict() for one in run.samples],
    }


def _question(args: argparse.Namespace) -> dict[str, Any]:
    """What is asked, for the JSON; raises BadSpec where it cannot be."""
    slo = Slo.parse(args.slo)
    traffic.parse(args.traffic)
    lengths.parse(args.lengths)
    options.check_streamed(slo, scenarios.weights(args.scenario))
    if args.ask:
        scenarios.models(args.ask)
    told = "model ask traffic slo lengths scenario seed clients idle overload mps kill_at startup_s"
    return {key: getattr(args, key) for key in told.split()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serve-app prove", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("configs", nargs="+", type=Path, metavar="CONFIG", help="a configuration, such as configs/lfm2-2gpu.yaml")
    add("--model", required=True, help="the model to ask, by any of its names")
    add("--traffic", required=True, help="what comes: spike:base=20,peak=400,at=30,for=100,duration=130, day, ...")
    add("--slo", default="ttft_p99=500ms,tpot_p99=40ms", help="the objective")
    add("--lengths", default="fixed:prompt=256,output=128", help="of requests, tokens: fixed, lognormal, or trace:FILE")
    add("--scenario", default="chat", help="what users ask; see loadtests/locustfile.py")
    add("--ask", default="", help="names they give, by weight, as in lfm2-demo:3,capitals:1 (default: the model's)")
    add("--clients", type=whole(), default=1, help="processes that send the requests")
    add("--idle", type=whole(0), default=0, help="connections that are open meanwhile and say nothing")
    add("--overload", action="store_true", help="too much comes: refusals do not count against the SLO")
    add("--mps", action="store_true", help="start the services with `up --mps`")
    add("--kill-at", type=above_zero(), help="kill an engine so many seconds after the load test's start")
    add("--startup-s", type=above_zero(), help="excused after a jump; unless given, the longest start that is seen")
    add("--seed", type=int, default=1, help="of arrivals, lengths and texts")
    add("--api-key", default="", help="sent as a bearer token")
    add("--json", type=Path, help="write all figures here")
    add("--plot", type=Path, help="draw load, replicas and times into this PNG, a column for each configuration")
    return parser


if __name__ == "__main__":
    sys.exit(main())
