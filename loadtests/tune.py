"""`serve-app tune CONFIG --model M`: from an objective and a traffic to a configuration that is proven.

Measures one replica on this machine until its knee is known, derives the numbers of the model's entry, writes
CONFIG.tuned.yaml, proves it by replaying the traffic against the untuned defaults, and writes a report. What is
measured is kept beside the output as it is made: Ctrl-C loses nothing, `--resume` goes on.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from loadtests.arguments import BadSpec, above_zero, whole
from loadtests.bench.peers.configured import ConfiguredModel
from loadtests.bench.peers.peer import DidNotServe
from loadtests.loadgen import lengths, options, scenarios, traffic
from loadtests.loadgen.locust_run import LocustFailed
from loadtests.planner import report
from loadtests.planner.tuning.job import QUICK, Effort, TuningJob
from loadtests.planner.tuning.knee import NeverHolds
from loadtests.planner.tuning.measure import RequestSpec
from loadtests.planner.tuning.prove import Criteria
from loadtests.planner.tuning.state import CannotResume, State
from loadtests.planner.tuning.tuner import tune
from loadtests.results.about import about
from loadtests.results.slo import Slo
from serve_app.config.errors import ConfigError

CONTENDERS = ("default", "serve")
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """0 when the tuned configuration passed its proof, 1 when it did not or could not be measured."""
    args = _parser().parse_args(argv)
    try:
        job = _job(args)
    except (BadSpec, ConfigError, CannotResume, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    state = job.state
    job.progress.say(f"about {job.progress.left_s / 60:.0f} minutes; what is measured is kept in {state.path}")
    try:
        tune(job)
    except KeyboardInterrupt:
        print(f"stopped; what was measured is kept in {state.path}, and --resume goes on", file=sys.stderr)
        return INTERRUPTED
    except (DidNotServe, LocustFailed, NeverHolds) as error:
        print(f"{str(error)[-3000:]}\nWhat was measured is kept in {state.path}; --resume goes on.", file=sys.stderr)
        return 1
    finally:
        if state.knees:
            written = report.write(state)
            job.progress.say(f"report: {', '.join(map(str, written))}")
    passed = report.passed(state)
    print(report.summary(state))
    return 0 if passed else 1


def _job(args: argparse.Namespace) -> TuningJob:
    source = ConfiguredModel.find(args.config, args.model)
    slo, shape = Slo.parse(args.slo), traffic.parse(args.traffic)
    lengths.parse(args.lengths)
    options.check_streamed(slo, scenarios.weights(args.scenario))
    if args.ask:
        scenarios.models(args.ask)
    out = args.out or args.config.with_suffix(".tuned.yaml")
    question = {
        "config": args.config.name,
        "entry": source.as_written,
        "model": source.model.id,
        "slo": str(slo),
        "traffic": args.traffic,
        "lengths": args.lengths,
        "scenario": args.scenario,
        "seed": args.seed,
        "max_replicas": args.max_replicas,
        "within": args.within,
    }
    if args.mps:
        question["mps"] = True
    if args.ask:
        question["ask"] = args.ask
    path = out.with_suffix(".json")
    state = State.resumed(path, question) if args.resume else State(path, question, about("Locust", 1))
    if args.measured_in and not state.knees:
        state.take_measurements(args.measured_in)
    gpu = state.about["gpu"]
    effort = QUICK if args.quick else Effort()
    return TuningJob(
        source=source,
        requests=RequestSpec(
            source.model.id, args.lengths, args.scenario, args.seed, slo, args.api_key, asked=args.ask
        ),
        traffic=shape,
        traffic_spec=args.traffic,
        effort=replace(
            effort,
            step_s=args.step_seconds or effort.step_s,
            repeats=args.repeats or effort.repeats,
            most_rate=args.max_rate,
        ),
        gpus=len(gpu.splitlines()) if gpu else 0,
        most_replicas=args.max_replicas,
        criteria=Criteria(within=args.within),
        contenders=[name for name in args.against.split(",") if name],
        state=state,
        tuned_path=out,
        report_name=out.with_suffix(".html").name,
        up_options=("--mps",) if args.mps else (),
        clients=args.clients,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serve-app tune", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("config", type=Path, help="a configuration, such as configs/demo.yaml")
    add("--model", required=True, help="the model to tune, by any of its names")
    add("--slo", default="ttft_p95=1s,tpot_p95=100ms", help="the objective, as in ttft_p95=500ms,tpot_p95=40ms")
    add("--traffic", required=True, help="what it must hold: spike:base=2,peak=12,at=60,for=60,duration=300, day, ...")
    add("--lengths", default="fixed:prompt=128,output=64", help="of requests, tokens: fixed, lognormal, or trace:FILE")
    add("--scenario", default="chat", help="what users ask; see loadtests/locustfile.py")
    add("--ask", default="", help="names they give, by weight, as in lfm2-demo:3,capitals:1 (default: the model's)")
    add("--max-replicas", type=whole(), help="no more than this; unless given, what the machine has room for")
    add(
        "--within",
        type=above_zero(most=1),
        default=Criteria.within,
        help="share of requests that the proof wants within the SLO",
    )
    add("--against", type=_contenders, default="default", help="prove against these, by comma: default, serve, or none")
    add("--quick", action="store_true", help="shorter and fewer measurements: a wider interval")
    add("--step-seconds", type=above_zero(), help="how long each rate is offered")
    add("--repeats", type=whole(), help="how often a doubtful rate is measured at most")
    add(
        "--max-rate",
        type=above_zero(endless=True),
        default=float("inf"),
        help="offer no more to one replica, requests/s",
    )
    add("--clients", type=whole(), default=1, help="processes that send the requests")
    add("--mps", action="store_true", help="start the services with `up --mps`")
    add("--seed", type=int, default=1, help="of arrivals, lengths and texts")
    add("--api-key", default="", help="sent as a bearer token")
    add("--out", type=Path, help="the tuned configuration; CONFIG.tuned.yaml unless given; all else lies beside it")
    add("--measured-in", type=Path, help="X.tuned.json of another traffic: take its measurements of one replica over")
    add("--resume", action="store_true", help="go on with what an interrupted run has measured")
    return parser


def _contenders(text: str) -> str:
    names = [] if text == "none" else text.split(",")
    if strange := [name for name in names if name not in CONTENDERS]:
        raise argparse.ArgumentTypeError(f"no contender is called {', '.join(strange)}: {', '.join(CONTENDERS)}, none")
    return ",".join(names)


if __name__ == "__main__":
    sys.exit(main())
