"""`serve-app fairness`: what a client that asks little notices of one that asks for more than there is.

In virtual time: the pool, its queue and its shares are the service's own, and engines are simulated. The one is alone
first; then both ask, with one key for both, which is first come first served, and with a key each.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from loadtests.arguments import BadSpec, whole
from loadtests.loadgen import lengths, traffic
from loadtests.planner.simulation.fleet import Hardware
from loadtests.planner.simulation.options import timing
from loadtests.planner.simulation.scalers import Scaler
from loadtests.planner.simulation.world import SimulatedClient, SimulationScenario, simulate
from loadtests.results import tables
from loadtests.results.percentiles import percentiles
from loadtests.results.record import Record
from serve_app.config.errors import ConfigError
from serve_app.config.schema import IngressConfig, ModelConfig

TRICKLE, FLOOD = "", "flood"
"""Of the records of each client."""


@dataclass(frozen=True)
class Noticed:
    """What became of both clients in one run."""

    ttft_ms: dict[int, float]
    """The trickle's, by percentile; empty where it did not ask."""
    trickle_refused: int
    flood_tokens_per_s: float
    """That it was answered."""
    flood_refused: int

    @classmethod
    def of(cls, records: Sequence[Record], until_s: float) -> Noticed:
        trickle = [one for one in records if one.scenario == TRICKLE]
        flood = [one for one in records if one.scenario == FLOOD]
        return cls(
            {p: 1000 * s for p, s in percentiles(one.scheduled_ttft_s for one in trickle).items()} if trickle else {},
            sum(one.outcome != "ok" for one in trickle),
            sum(one.output_tokens for one in flood if one.ended_s <= until_s) / until_s,
            sum(one.outcome != "ok" for one in flood),
        )


def main(argv: Sequence[str] | None = None) -> int:
    """0 when all was simulated."""
    args = _parser().parse_args(argv)
    try:
        runs = _runs(args)
    except (BadSpec, ConfigError) as error:
        print(error, file=sys.stderr)
        return 2
    print(_table(runs))
    if args.json:
        args.json.write_text(json.dumps({name: asdict(one) for name, one in runs.items()}, indent=1) + "\n")
    return 0


def _runs(args: argparse.Namespace) -> dict[str, Noticed]:
    """By what was asked. Raises BadSpec and ConfigError."""
    model = ModelConfig(
        id="m",
        engine="simulated",
        simulated=timing(args.timing),
        replicas=args.replicas,
        max_running=args.max_running,
        max_queued=args.max_queued,
    )
    trickle, flood = (
        SimulatedClient(name, traffic.parse(load), lengths.parse(tokens), key=name)
        for name, load, tokens in (
            (TRICKLE, args.trickle, args.trickle_lengths),
            (FLOOD, args.flood, args.flood_lengths),
        )
    )
    alone = SimulationScenario(
        model=model,
        traffic=trickle.traffic,
        lengths=trickle.lengths,
        hardware=Hardware(0.0),
        ingress=IngressConfig(replicas=args.ingresses),
        seed=args.seed,
    )
    both = replace(alone, others=(flood,))
    scenarios = {
        "the trickle alone": alone,
        "both, one key": replace(alone, others=(replace(flood, key=TRICKLE),)),
        "both, a key each": both,
    }
    runs = {}
    for name, scenario in scenarios.items():
        run = simulate(scenario, Scaler(lambda seen: args.replicas, args.replicas))
        runs[name] = Noticed.of(run.records, run.until_s)
    return runs


def _table(runs: dict[str, Noticed]) -> str:
    heads = [
        ("", "the trickle's TTFT, ms", "of its p95", "refused", "the flood's", "refused"),
        ("", "p50 / p95 / p99", "alone", "", "tokens/s", ""),
    ]
    alone = next(iter(runs.values())).ttft_ms[95]
    rows = [
        (
            name,
            " / ".join(f"{one.ttft_ms[p]:.0f}" for p in (50, 95, 99)),
            f"{one.ttft_ms[95] / alone:.2f}",
            str(one.trickle_refused),
            f"{one.flood_tokens_per_s:,.0f}",
            str(one.flood_refused),
        )
        for name, one in runs.items()
    ]
    return tables.aligned([*heads, *rows])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serve-app fairness", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--trickle", default="steady:rate=2,duration=300", help="when the one asks, as --traffic of `simulate`")
    add("--trickle-lengths", default="fixed:prompt=1024,output=64", help="for what, as --lengths of `simulate`")
    add("--flood", default="steady:rate=40,duration=300", help="when the other asks")
    add("--flood-lengths", default="lognormal:prompt=128,output=256", help="and for what")
    add("--timing", default="kv_tokens=1e6", help="of an engine, as in `simulate`")
    add("--replicas", type=whole(), default=1)
    add("--max-running", type=whole(), default=64)
    add("--max-queued", type=whole(0), default=64)
    add("--ingresses", type=whole(), default=1, help="processes, each with a queue of its own")
    add("--seed", type=int, default=0)
    add("--json", type=Path, help="write the figures here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
