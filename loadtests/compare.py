"""`serve-app compare SUITE`: this project and its peers side by side on this machine.

Each contender is started in turn, checked, warmed up, measured under every load and stopped; rounds repeat the whole,
so that a slow drift of the machine meets everyone. Prints medians and their ratios to the suite's baseline, which is
`vllm serve`, or the engine alone for `path`.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from loadtests.arguments import whole
from loadtests.bench.loads import BenchLoad
from loadtests.bench.peers import engine_counts
from loadtests.bench.peers.peer import DidNotServe, RunningPeer
from loadtests.bench.suites import SUITES, Suite, refuse_source
from loadtests.bench.vllm_bench import BenchFailed, measure, rust_client
from loadtests.results.about import about
from loadtests.results.comparison import COLUMNS, Comparison, Measurement
from loadtests.results.plots import comparison, style
from serve_app.launching.environment import free_ports


def main(argv: Sequence[str] | None = None) -> int:
    """0 when every contender chosen was measured under every load."""
    args = _arguments(argv)
    suite = SUITES[args.suite](args.source)
    contenders = _chosen(args.contenders, list(suite.contenders), "contender")
    loads = [suite.loads[name] for name in _chosen(args.loads, list(suite.loads), "load")]
    results = Comparison(args.suite, about("Rust" if rust_client() else "Python", args.rounds))
    if args.extend and args.json.exists():
        try:
            results = Comparison.read(args.json)
        except (ValueError, KeyError) as error:
            sys.exit(f"cannot extend {args.json}: {error!r}")
        results.failed = {name: why for name, why in results.failed.items() if name not in contenders}
    names: dict[str, str] = {}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for round in range(args.rounds):
            for short in contenders:
                if short not in results.failed:
                    names[short] = _one(suite, short, loads, round, results, args.json)
    except KeyboardInterrupt:
        print("stopped; what was measured is kept", file=sys.stderr)
    print("\n" + results.table(names.get(suite.baseline, suite.baseline)))
    if args.plot and results.samples:
        style.png(comparison.bars(results.title, results.medians(), COLUMNS), args.plot)
    return 0 if results.samples and not results.failed and not any(results.failed_loads.values()) else 1


def _one(suite: Suite, short: str, loads: list[BenchLoad], round: int, results: Comparison, json: Path | None) -> str:
    """Measure one contender; its full name."""
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        peer = suite.contenders[short](suite.setup, free_ports(1)[0], Path(folder))
        began = time.monotonic()
        try:
            with RunningPeer(peer, suite.setup, Path(folder)) as running:
                _say(f"{peer.name}: ready after {time.monotonic() - began:.0f} s")
                for load in loads:
                    if not round:
                        results.try_again(load.name, peer.name)
                    if not results.has_failed(load.name, peer.name):
                        _under(load, running, suite, round, results)
                    if json:
                        results.write(json)
        except DidNotServe as failure:
            results.failed[short] = str(failure)
            _say(f"{peer.name}: not measured: {str(failure)[-1000:]}")
            if json:
                results.write(json)
    return peer.name


def _under(load: BenchLoad, running: RunningPeer, suite: Suite, round: int, results: Comparison) -> None:
    """Measure a contender under a load, or keep why it failed; raises DidNotServe where it is gone then."""
    name = running.peer.name
    try:
        measured = _measured(running, suite, load, round)
    except BenchFailed as failure:
        results.fail(load.name, name, str(failure))
        _say(f"{name}: {load.name}: failed: {str(failure)[-1000:]}")
        if not running.serves():
            raise DidNotServe(f"{name} serves no longer after {load.name}: {failure}") from failure
        return
    results.add(load.name, name, round, measured)
    _say(
        f"{name}: {load.name}: {measured.tokens_per_s:,.0f} tokens/s, TTFT p50 {measured.ttft_p50_ms:.1f} ms,"
        f" TPOT {measured.tpot_mean_ms:.2f} ms, {measured.errors} errors"
    )


def _measured(running: RunningPeer, suite: Suite, load: BenchLoad, round: int) -> Measurement:
    """Warmed up by a fifth of the load, with other prompts."""
    url, model, source = running.peer.url, suite.setup.model, suite.setup.tokenizer or suite.setup.source
    measure(url, model, source, replace(load, rounds=max(1, load.rounds // 5)), suite.slo, seed=1000 + round)
    counted, before = engine_counts.read(url), running.cpu_seconds()
    measured = measure(url, model, source, load, suite.slo, seed=round)
    spent = running.cpu_seconds() - before
    answered, counts = load.requests - measured.errors, engine_counts.read(url)
    tokens = measured.tokens_per_s / measured.requests_per_s * answered
    return replace(
        measured,
        server_cpu_s_per_1k=1000 * spent / tokens,
        cached=counts.cached_since(counted),
        adapter_loads=None if (loads := counts.loads_since(counted)) is None else 1000 * loads / answered,
    )


def _chosen(wanted: str | None, known: list[str], what: str) -> list[str]:
    if wanted is None:
        return known
    names = wanted.split(",")
    if strange := [name for name in names if name not in known]:
        sys.exit(f"no {what} is called {', '.join(strange)}; there are {', '.join(known)}")
    return names


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    args = parser.parse_args(argv)
    if args.extend and not args.json:
        parser.error("--extend keeps the samples of a --json file: say which")
    refuse_source(parser, args)
    return args


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serve-app compare", description=__doc__.splitlines()[0])
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--source", default="", help="weights on a GPU: a path or repository (no weights: random ones)")
    parser.add_argument("--contenders", help="some of them, by comma")
    parser.add_argument("--loads", help="some of them, by comma")
    parser.add_argument("--rounds", type=whole(), default=3)
    parser.add_argument("--json", type=Path, help="write every sample here")
    parser.add_argument(
        "--extend",
        action="store_true",
        help="keep the samples that the --json file holds already, and try again what failed",
    )
    parser.add_argument("--plot", type=Path, help="draw the medians into this PNG")
    return parser


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
