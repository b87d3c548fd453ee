"""`serve-app batch INPUT.jsonl --out OUTPUT.jsonl (--config C | --base-url U)`: work through a file."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from serve_app.adapters.directory import AdapterDirectory
from serve_app.batch.run.client import HttpClient, NoResponse
from serve_app.batch.run.engines import DidNotStart, LocalEngines
from serve_app.batch.run.input import InputError, NoRoomToScan, expand, scan
from serve_app.batch.run.job import PRIORITY, Job, RunSummary
from serve_app.batch.run.journal import Journal, JournalError
from serve_app.batch.run.pace import MOST, Pace
from serve_app.batch.run.runner import run
from serve_app.batch.run.sender import RunStopped
from serve_app.config.file import load
from serve_app.config.schema import ConfigError, ModelConfig

INTERRUPTED = 130
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} lines [{elapsed}<{remaining}{postfix}]"
FORESEEN = (InputError, NoRoomToScan, JournalError, NoResponse, RunStopped, DidNotStart, ConfigError)


def main(argv: Sequence[str] | None = None) -> int:
    """0 when every line was answered, 1 when some are in the error file, 2 when it could not start or had to stop."""
    args = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    errors = args.errors or args.out.with_name(f"{args.out.name.removesuffix('.jsonl')}.errors.jsonl")
    progress = BatchProgress(args.out, errors, quiet=args.quiet, as_json=args.json)
    try:
        job = Job(tuple(expand(args.input)), args.out, errors, args.priority)
        progress.say(f"reading {len(job.inputs)} file{'s' if len(job.inputs) > 1 else ''}")
        scanned = scan(job.inputs)
        with Journal(job.output, job.errors, scanned) as journal:
            summary = RunSummary.of(journal)
            if summary.done == summary.total:
                progress.say("nothing is left to do")
            elif args.config:
                summary = _with_engines(args, job, scanned.models, journal, progress)
            else:
                summary = _over_http(args, job, journal, progress)
    except FORESEEN as error:
        progress.stopped(str(error))
        return 2
    except Exception as error:
        progress.stopped(f"this was not foreseen: {type(error).__name__}: {error}; the same command goes on from here")
        return 2
    except KeyboardInterrupt:
        progress.stopped("interrupted; the same command goes on from here")
        return INTERRUPTED
    progress.finished(summary)
    return 1 if summary.failed + summary.before_failed else 0


def _over_http(args: argparse.Namespace, job: Job, journal: Journal, progress: BatchProgress) -> RunSummary:
    async def work() -> RunSummary:
        async with HttpClient(args.base_url, args.api_key) as client:
            served = replace(job, models=await client.models())
            return await run(served, client, lambda _: Pace(most=args.concurrency), journal, progress.update)

    return asyncio.run(work())


def _with_engines(
    args: argparse.Namespace, job: Job, named: frozenset[str], journal: Journal, progress: BatchProgress
) -> RunSummary:
    """Starts the models that are `named`."""
    config = load(args.config).applications[0].config
    names = {model.id: _names(model) for model in config.models}
    served = replace(job, models=frozenset().union(*names.values()))
    asked = tuple(model for model in config.models if named.intersection(names[model.id]))
    engines = LocalEngines(config.model_copy(update={"models": asked or config.models[:1]}), progress.say)

    async def work() -> RunSummary:
        client = engines.client()
        return await run(served, client, lambda name: engines.pace(name, args.concurrency), journal, progress.update)

    engines.start()
    try:
        return asyncio.run(work())
    finally:
        progress.say("stopping the engines")
        engines.stop()


def _names(model: ModelConfig) -> frozenset[str]:
    """A model's and its adapters' by now, broken ones included: their lines are told why."""
    adapters = AdapterDirectory(model).look() if model.adapters else []
    return frozenset((*model.names, *(one.id for one in adapters)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="serve-app batch",
        description="Answer every request of a file. Run it again after whatever stopped it: it goes on from there.",
    )
    parser.add_argument("input", nargs="+", help="OpenAI batch files: .jsonl, .jsonl.gz, glob patterns")
    parser.add_argument("--out", type=Path, required=True, help="where the answers go")
    parser.add_argument("--errors", type=Path, help="where failed lines go, with the reason (OUT.errors.jsonl)")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--config", type=Path, help="a configuration, whose engines are started and stopped")
    where.add_argument("--base-url", help="a running service, such as http://127.0.0.1:8000")
    parser.add_argument("--api-key", default=os.environ.get("OPENAI_API_KEY"), help="its key (OPENAI_API_KEY)")
    parser.add_argument("--concurrency", type=int, default=MOST, help="the most requests of a model open at once")
    parser.add_argument("--priority", type=int, default=PRIORITY, help="of lines without one; others' requests have 0")
    parser.add_argument("--quiet", action="store_true", help="no bar, no summary")
    parser.add_argument("--json", action="store_true", help="the summary as a JSON object on stdout")
    return parser


class BatchProgress:
    """A bar on stderr while it runs; in the end a summary on stdout, or with `as_json` one JSON object."""

    def __init__(self, output: Path, errors: Path, *, quiet: bool = False, as_json: bool = False) -> None:
        """`quiet` leaves out the bar, and the summary unless it is JSON."""
        self._output = output
        self._errors = errors
        self._quiet = quiet
        self._json = as_json
        self._bar: tqdm[NoReturn] | None = None
        self._last = RunSummary()
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """A step on the way."""
        if not self._quiet:
            tqdm.write(text, file=sys.stderr)

    def update(self, summary: RunSummary) -> None:
        """After each line."""
        self._last = summary
        if self._quiet:
            return
        if self._bar is None:
            # Where nobody watches, a line every half minute says enough.
            pause_s = 0.1 if sys.stderr.isatty() else 30.0
            self._bar = tqdm(
                total=summary.total, initial=summary.before, bar_format=BAR, mininterval=pause_s, dynamic_ncols=True
            )
        tokens_per_s = summary.output_tokens / max(summary.seconds, 1e-9)
        self._bar.set_postfix_str(
            f"{tokens_per_s:,.0f} tokens/s, {summary.open} open, {summary.failed} failed", refresh=False
        )
        self._bar.update(summary.done - self._bar.n)
        if summary.done == summary.total:
            self._close()

    def finished(self, summary: RunSummary) -> None:
        """The run is complete."""
        self._close()
        if self._json:
            print(json.dumps(asdict(summary) | {"output": str(self._output), "errors_file": str(self._errors)}))
        elif not self._quiet:
            print("\n".join(self._told(summary)))

    def stopped(self, reason: str) -> None:
        """The run ended before its time."""
        self._close()
        print(reason, file=sys.stderr)
        if self._json:
            print(json.dumps(asdict(self._last) | {"stopped": reason}))
        elif self._last.total and not self._quiet:
            print("\n".join(self._told(self._last)), file=sys.stderr)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _told(self, summary: RunSummary) -> list[str]:
        seconds = max(summary.seconds, 1e-9)
        failed = summary.failed + summary.before_failed
        lines = [f"{summary.done - failed:,} of {summary.total:,} lines answered, {failed:,} failed"]
        if left := summary.total - summary.done:
            lines[0] += f", {left:,} left"
        if summary.before:
            lines[0] += f"; {summary.before:,} of them by earlier runs"
        lines.append(
            f"{summary.prompt_tokens:,} tokens in, {summary.output_tokens:,} out in {seconds:,.1f} s: "
            f"{summary.output_tokens / seconds:,.0f} tokens/s, {summary.succeeded / seconds:,.1f} lines/s"
        )
        lines.append(f"answers: {self._output}")
        if failed:
            kinds = [f"{count:,} {kind}" for kind, count in sorted(summary.errors.items())]
            if summary.before_failed:
                kinds.append(f"{summary.before_failed:,} by earlier runs")
            lines.append(
                f"errors:  {self._errors} ({', '.join(kinds)}); remove it and run again to try those lines again"
            )
        return lines
