"""`serve-app offline SUITE`: a file of prompts through this project and through vLLM's own offline engine.

Each contender has a process of its own, the same prompts, engine arguments and output lengths, and the machine to
itself. Start-up is not counted; prompts that warm the engine up are others than those that are timed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from loadtests.arguments import above_zero, whole
from loadtests.bench.peers import serve_file
from loadtests.bench.peers.ours import service_args
from loadtests.bench.peers.setup import PeerSetup
from loadtests.bench.suites import SETUPS, refuse_source
from loadtests.results import tables
from serve_app.launching.guard import Guard, marked
from serve_app.launching.processes import Family

SAMPLING: dict[str, Any] = {"temperature": 0, "repetition_penalty": 1.0}
"""Of every request, since this project fills in what a model's publisher recommends and vLLM's `LLM` does not."""
TIMEOUT_S = 1800.0
STOP_PATIENCE_S = 20.0
Figures = dict[str, Any]


class NotMeasured(Exception):
    """A contender did not answer; says which and why."""


def main(argv: Sequence[str] | None = None) -> int:
    """0 when every contender was measured."""
    parser = _parser()
    args = parser.parse_args(argv)
    refuse_source(parser, args)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    failed: dict[str, str] = {}
    results: dict[str, Figures] = {}
    try:
        _measure(args, results, failed)
    except KeyboardInterrupt:
        print("stopped; what was measured is kept", file=sys.stderr)
        failed.setdefault("the rest", "stopped")
    print("\n" + _table(results, failed))
    if args.json:
        written = {"suite": args.suite, "prompts": args.prompts, "results": results, "failed": failed}
        args.json.write_text(json.dumps(written, indent=1))
    return 1 if failed else 0


def _measure(args: argparse.Namespace, results: dict[str, Figures], failed: dict[str, str]) -> None:
    """Of each contender its best round, into `results`; into `failed` why one could not be measured."""
    setup = SETUPS[args.suite](args.source)
    with tempfile.TemporaryDirectory(prefix="offline-") as name:
        folder = Path(name)
        for round in range(args.rounds):
            prompts = _prompts(folder / f"prompts-{round}.jsonl", setup, args, seed=round)
            for contender, measure in _contenders(setup, args, folder).items():
                if contender in failed:
                    continue
                try:
                    figures = measure(prompts)
                except NotMeasured as failure:
                    failed[contender] = str(failure)
                    _say(f"{contender}: not measured: {failure}")
                    continue
                best = results.get(contender)
                if best is None or figures["tokens_per_s"] > best["tokens_per_s"]:
                    results[contender] = figures
                _say(f"{contender}: {figures['tokens_per_s']:,.0f} tokens/s")


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def _contenders(setup: PeerSetup, args: argparse.Namespace, folder: Path) -> dict[str, Callable[[Path], Figures]]:
    found: dict[str, Callable[[Path], Figures]] = {}
    if args.suite != "simulated":
        found["vLLM LLM.chat"] = partial(_vllm, args, setup)
    for replicas in args.replicas:
        config = _config(setup, args, folder, replicas)
        several = f", {replicas} replicas" if replicas > 1 else ""
        found[f"this project, file{several}"] = partial(_file, args, config)
        if args.suite != "simulated":
            found[f"this project, LLM.chat{several}"] = partial(_llm, args, config)
    return found


def _vllm(args: argparse.Namespace, setup: PeerSetup, prompts: Path) -> Figures:
    engine = {"model": setup.source, "max_num_seqs": setup.streams, **setup.engine_args, **setup.platform_args}
    arguments = {"prompts": str(prompts), "warm_up": args.warm_up, "engine_args": engine}
    return _run(["loadtests.bench.peers.vllm_offline", json.dumps(arguments)], setup.environment)


def _llm(args: argparse.Namespace, config: Path, prompts: Path) -> Figures:
    arguments = {"prompts": str(prompts), "warm_up": args.warm_up, "config": str(config)}
    return _run(["loadtests.bench.peers.our_offline", json.dumps(arguments)], {})


def _file(args: argparse.Namespace, config: Path, prompts: Path) -> Figures:
    """The whole file, the warm-up's lines included: an engine's first steps count against this one."""
    output = prompts.with_suffix(".out.jsonl")
    try:
        return _run(["serve_app.batch", str(prompts), "--out", str(output), "--config", str(config), "--json"], {})
    finally:
        output.unlink(missing_ok=True)


def _run(module: list[str], environment: dict[str, str]) -> Figures:
    """In a process of its own, which leaves nothing behind, however this one ends."""
    family = Family(uuid.uuid4().hex)
    variables = {**os.environ, **environment, **marked(family)}
    with Guard(family):
        process = subprocess.Popen([sys.executable, "-m", *module], stdout=subprocess.PIPE, text=True, env=variables)
        try:
            said, _ = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired as late:
            raise NotMeasured(f"{module[0]}: no end after {TIMEOUT_S:g} s") from late
        finally:
            family.end(STOP_PATIENCE_S)
            process.wait()
    if process.returncode:
        raise NotMeasured(f"{module[0]}: not every prompt was answered: it ended with {process.returncode}")
    return _figures(module[0], said)


def _figures(name: str, said: str) -> Figures:
    """The last JSON object of what a contender printed, with its tokens a second."""
    found = next((line for line in reversed(said.splitlines()) if line.startswith("{")), None)
    if found is None:
        raise NotMeasured(f"{name}: it told no figures")
    figures: Figures = json.loads(found)
    if not figures["output_tokens"] or not figures["seconds"]:
        raise NotMeasured(f"{name}: the answers hold no token")
    return figures | {"tokens_per_s": figures["output_tokens"] / figures["seconds"]}


def _config(setup: PeerSetup, args: argparse.Namespace, folder: Path, replicas: int) -> Path:
    service = service_args(setup, replicas, ingresses=0)
    # Every engine of every contender may run as many sequences.
    service["models"][0]["max_running"] = setup.streams
    if args.gpu_memory_gib:
        service["gpu_memory_gib"] = args.gpu_memory_gib
    return serve_file.write(folder / f"offline-{replicas}.yaml", service)


def _prompts(file: Path, setup: PeerSetup, args: argparse.Namespace, seed: int) -> Path:
    rng = random.Random(seed)
    with file.open("w") as lines:
        for number in range(args.warm_up + args.prompts):
            content = " ".join(str(rng.randrange(1000)) for _ in range(args.numbers))
            body = {
                "model": setup.model,
                "messages": [{"role": "user", "content": content}],
                "max_tokens": args.output_tokens,
                "ignore_eos": True,
                **SAMPLING,
            }
            line = {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}
            lines.write(json.dumps(line) + "\n")
    return file


def _table(results: dict[str, Figures], failed: dict[str, str]) -> str:
    """Output tokens a second of each, and their ratio to the first; who failed, and why."""
    base = next((one["tokens_per_s"] for one in results.values()), None)
    rows = [
        [
            name,
            f"{one['tokens_per_s']:,.0f}",
            f"{one['seconds']:.1f}",
            f"{one['prompt_tokens']:,}",
            f"{one['output_tokens']:,}",
            f"{one['tokens_per_s'] / base:.2f}",
        ]
        for name, one in results.items()
    ]
    rows += [[name, "failed", *["-"] * 4] for name in failed if name not in results]
    table = tables.aligned([["", "tokens/s", "seconds", "tokens in", "out", "ratio"], *rows])
    return "\n".join([table, *(f"Failed: {name}: {why}" for name, why in failed.items())])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serve-app offline", description=__doc__.splitlines()[0])
    parser.add_argument("suite", choices=SETUPS)
    parser.add_argument("--source", default="", help="weights on a GPU: a path or repository (no weights: random ones)")
    parser.add_argument(
        "--replicas", type=_counts, default="1", help="of this project, by comma; on a GPU they share it"
    )
    parser.add_argument("--gpu-memory-gib", type=above_zero(), help="of the GPU; 80 is assumed")
    parser.add_argument("--prompts", type=whole(), default=2000)
    parser.add_argument("--numbers", type=whole(), default=16, help="numbers in each prompt, a few tokens each")
    parser.add_argument("--output-tokens", type=whole(), default=32, help="of each answer")
    parser.add_argument("--warm-up", type=whole(0), default=64, help="prompts before those that are timed")
    parser.add_argument("--rounds", type=whole(), default=1, help="each contender's best counts")
    parser.add_argument("--json", type=Path, help="write every figure here")
    return parser


def _counts(text: str) -> list[int]:
    """`1,4`, each once."""
    return [*dict.fromkeys(map(whole(), text.split(",")))]


if __name__ == "__main__":
    sys.exit(main())
