"""`python -m tests.fuzz`: damaged requests against the demo models on the real engine, in bounded time.

The invariant: no 5xx, no connection without an answer, nobody waits for more than 30 s, errors in the schema, every
process of the service is the one it was, and none has kept memory. A failure is told with its seed and number;
`--seed S --first N --bodies 1 --images 0` sends that request again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from loadtests.arguments import above_zero, whole
from tests.fuzz import watch
from tests.fuzz.suite import Outcome, Suite
from tests.fuzz.watch import Process
from tests.support.service import running_service, with_batch

CONFIG = Path(__file__).parents[1] / "e2e" / "service.yaml"
WARM_UP = 0.1
"""The share of a run that fills caches, before memory counts."""
KEPT_MIB = 160.0
"""A process may keep so much more after the run than after the warm-up: caches of images, fragments of the heap."""
SETTLES_S = 3.0


def main(argv: Sequence[str] | None = None) -> int:
    """0 when the invariant held, 1 when it did not, 2 when the time ended first."""
    args = _parser().parse_args(argv)
    seed = args.seed if args.seed is not None else int(time.time())
    _say(f"seed {seed}: {args.bodies} bodies, {args.images} images")
    with _service(args.url) as url:
        return _run(url, seed, args)


def _run(url: str, seed: int, args: argparse.Namespace) -> int:
    suite, port = Suite(url, seed, _say), urlsplit(url).port or 80
    began, warm = time.monotonic(), int(args.bodies * WARM_UP)
    alive = watch.processes(port)

    def part(bodies: int, images: int, first: int) -> Outcome:
        left_s = args.minutes * 60 - (time.monotonic() - began)
        return asyncio.run(suite.run(bodies, images, left_s, first))

    outcomes = [part(warm, int(args.images * WARM_UP), args.first)] if warm else []
    time.sleep(SETTLES_S)
    before = watch.processes(port)
    outcomes.append(part(args.bodies - warm, args.images - int(args.images * WARM_UP), args.first + warm))
    time.sleep(SETTLES_S)
    after = watch.processes(port)
    troubles = [f"{one}" for outcome in outcomes for one in outcome.failures]
    troubles += [f"{alive[pid].title} ({pid}) has ended" for pid in alive.keys() - after.keys()]
    troubles += _kept(before, after)
    if httpx.get(f"{url}/ready", timeout=30).status_code != 200:
        troubles.append("the service is not ready afterwards")
    _summary(outcomes, before, after, troubles, time.monotonic() - began)
    _say(f"seed {seed}: {'held' if not troubles else f'{len(troubles)} failures'}")
    done = sum(one.done for one in outcomes)
    return 1 if troubles else 2 if done < args.bodies + args.images else 0


def _kept(before: dict[int, Process], after: dict[int, Process]) -> list[str]:
    return [
        f"{one.title} ({pid}) keeps {one.rss_mib - before[pid].rss_mib:.0f} MiB more than after the warm-up"
        for pid, one in after.items()
        if pid in before and one.rss_mib - before[pid].rss_mib > KEPT_MIB
    ]


def _summary(
    outcomes: list[Outcome], before: dict[int, Process], after: dict[int, Process], troubles: list[str], took_s: float
) -> None:
    statuses: Counter[int] = Counter()
    for outcome in outcomes:
        for (_, status), count in outcome.statuses.items():
            statuses[status] += count
    print("\n".join(["", *troubles, ""]))
    print(
        f"{sum(statuses.values())} requests in {took_s:.0f} s, the slowest {max(o.slowest_s for o in outcomes):.1f} s"
    )
    print("  by status: " + ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items())))
    for pid, one in sorted(after.items(), key=lambda item: item[1].title):
        grown = f"{one.rss_mib - before[pid].rss_mib:+.0f}" if pid in before else "new"
        print(f"  {one.rss_mib:6.0f} MiB ({grown:>4}) {one.title} ({pid})")


@contextlib.contextmanager
def _service(url: str | None) -> Iterator[str]:
    """One that runs, or the end-to-end tests' with the Batch API, for as long as this takes."""
    if url:
        yield url.rstrip("/")
        return
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        (batches := Path(folder) / "batches").mkdir()
        with running_service(with_batch(CONFIG, batches, Path(folder)), start_timeout_s=300) as started:
            yield started.url


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, help="of all requests; the time of day unless given")
    parser.add_argument("--bodies", type=whole(), default=5000)
    parser.add_argument("--images", type=whole(0), default=200)
    parser.add_argument("--first", type=whole(0), default=0, help="number of the first request")
    parser.add_argument("--minutes", type=above_zero(), default=40, help="end after so long, whatever is left")
    parser.add_argument("--url", help="a service of the demo models that runs already, on this machine")
    return parser


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
