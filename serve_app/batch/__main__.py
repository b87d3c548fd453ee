"""`python -m serve_app.batch INPUT.jsonl --out OUTPUT.jsonl (--config C | --base-url U)`: work through a file."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from serve_app.batch.run.client import HttpClient, NoAnswer
from serve_app.batch.run.journal import Journal, JournalError
from serve_app.batch.run.lines import InputError, expand
from serve_app.batch.run.local import DidNotStart, LocalEngines
from serve_app.batch.run.pace import MOST, Pace
from serve_app.batch.run.progress import Progress
from serve_app.batch.run.runner import PRIORITY, Job, Summary, run
from serve_app.batch.run.scan import NoRoomToScan, scan
from serve_app.batch.run.send import Stopped
from serve_app.config.file import load
from serve_app.config.schema import ConfigError

INTERRUPTED = 130
FORESEEN = (InputError, NoRoomToScan, JournalError, NoAnswer, Stopped, DidNotStart, ConfigError)


def main(argv: Sequence[str] | None = None) -> int:
    """0 when every line was answered, 1 when some are in the error file, 2 when it could not start or had to stop."""
    args = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    errors = args.errors or args.out.with_name(f"{args.out.name.removesuffix('.jsonl')}.errors.jsonl")
    progress = Progress(args.out, errors, quiet=args.quiet, as_json=args.json)
    try:
        job = Job(tuple(expand(args.input)), args.out, errors, args.priority)
        progress.say(f"reading {len(job.inputs)} file{'s' if len(job.inputs) > 1 else ''}")
        scanned = scan(job.inputs)
        with Journal(job.output, job.errors, scanned) as journal:
            summary = Summary.of(journal)
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


def _over_http(args: argparse.Namespace, job: Job, journal: Journal, progress: Progress) -> Summary:
    async def work() -> Summary:
        async with HttpClient(args.base_url, args.api_key) as client:
            served = replace(job, models=await client.models())
            return await run(served, client, lambda _: Pace(most=args.concurrency), journal, progress.update)

    return asyncio.run(work())


def _with_engines(
    args: argparse.Namespace, job: Job, named: frozenset[str], journal: Journal, progress: Progress
) -> Summary:
    """Starts the models that are `named`."""
    config = load(args.config).applications[0].config
    served = replace(job, models=frozenset(name for model in config.models for name in model.names))
    asked = tuple(model for model in config.models if named.intersection(model.names))
    engines = LocalEngines(config.model_copy(update={"models": asked or config.models[:1]}), progress.say)

    async def work() -> Summary:
        client = engines.client()
        return await run(served, client, lambda name: engines.pace(name, args.concurrency), journal, progress.update)

    engines.start()
    try:
        return asyncio.run(work())
    finally:
        progress.say("stopping the engines")
        engines.stop()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serve_app.batch",
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


if __name__ == "__main__":
    sys.exit(main())
