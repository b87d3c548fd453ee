"""`serve-app switching --host URL --model M`: what it costs a running service to load an adapter.

A stream of the model's runs all the while. Beside it each of the model's adapters in turn is asked for one token, and
at once again: the first answer comes when the adapter is loaded, the second finds it there. By how much the first takes
longer, and by how much the stream waits longer meanwhile, is what loading takes and for how long it holds up others.
Where several replicas serve the model the stream is on one of them, and does not see what others load.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import aiohttp

from loadtests.arguments import whole
from loadtests.bench import adapters
from loadtests.loadgen.options import API_KEY_VARIABLE
from loadtests.results import tables
from loadtests.results.percentiles import percentile

PROMPT = "The"
STREAMED = 1000
"""Tokens of the stream; it begins anew where it ends."""
SETTLES_S = 1.0
"""For the stream to begin."""
LEAST_HEARD = 10
"""Chunks of the stream in that time."""


class NothingSeen(Exception):
    """There is no figure; says why."""


@dataclass(frozen=True)
class AdapterSwitch:
    """One load of one adapter, times in s."""

    load_s: float
    """How much later its first request was answered than its second."""
    stall_s: float
    """How much longer the stream waited during the first request than during the second, at the longest."""


def main(argv: Sequence[str] | None = None) -> int:
    """0 when loads were seen, 1 with the reason when none could be."""
    args = _parser().parse_args(argv)
    try:
        found = asyncio.run(measure(args.host, args.model, args.rounds, args.api_key))
    except (NothingSeen, aiohttp.ClientError, OSError) as failure:
        print(failure, file=sys.stderr)
        return 1
    print(report(found))
    return 0


async def measure(url: str, model: str, rounds: int, api_key: str = "") -> list[AdapterSwitch]:
    """Each load seen in so many rounds over the model's adapters; raises NothingSeen."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    found: list[AdapterSwitch] = []
    async with aiohttp.ClientSession(url.rstrip("/").removesuffix("/v1"), headers=headers) as session:
        listed = (await (await session.get("/v1/models")).json())["data"]
        names = [one["id"] for one in listed if one.get("parent") == model]
        if not names:
            raise NothingSeen(f"{model!r} has no adapters: {', '.join(one['id'] for one in listed)}")
        async with _stream(session, model) as heard:
            await asyncio.sleep(SETTLES_S)
            if len(heard) < LEAST_HEARD:
                raise NothingSeen(
                    f"the stream gave {len(heard)} chunks in {SETTLES_S:g} s: too few to see a wait in it"
                )
            for adapter in names * rounds:
                before = await _loads(session)
                cold, warm = [await _asked(session, adapter, heard) for _ in range(2)]
                if (after := await _loads(session)) is None or after != before:
                    found.append(AdapterSwitch(*(max(0.0, a - b) for a, b in zip(cold, warm, strict=True))))
    if not found:
        raise NothingSeen("no adapter was loaded: each was there already; have more of them than max_loaded")
    return found


def report(found: Sequence[AdapterSwitch]) -> str:
    """For people, and as the timing that the simulator takes."""
    columns = {"until loaded": [one.load_s for one in found], "streams wait": [one.stall_s for one in found]}
    shown = [[name, *(f"{1000 * percentile(of, p):.1f}" for p in (50, 95, 100))] for name, of in columns.items()]
    load_s, stall_s = map(median, columns.values())
    timing = f"adapter_load_ms={1000 * max(0.0, load_s - stall_s):.3g},adapter_stall_ms={1000 * stall_s:.3g}"
    rows = [[f"{len(found)} loads, ms", "p50", "p95", "most"], *shown]
    return f"{tables.aligned(rows)}\nfor serve-app simulate: --timing {timing}"


@contextlib.asynccontextmanager
async def _stream(session: aiohttp.ClientSession, model: str) -> AsyncIterator[list[float]]:
    """When each chunk of an endless stream came, as perf_counter has it."""
    heard: list[float] = []

    async def listen() -> None:
        body = {"model": model, "prompt": PROMPT, "max_tokens": STREAMED, "ignore_eos": True, "stream": True}
        while True:
            async with session.post("/v1/completions", json=body) as answer:
                if answer.status != 200:
                    raise NothingSeen(f"the stream was refused: {answer.status} {(await answer.text())[:500]}")
                async for line in answer.content:
                    if line.startswith(b"data: {"):
                        heard.append(time.perf_counter())

    listening = asyncio.create_task(listen())
    try:
        yield heard
    finally:
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening


async def _asked(session: aiohttp.ClientSession, adapter: str, heard: Sequence[float]) -> tuple[float, float]:
    """Seconds to the answer of a request for one token, and the longest wait of the stream until then."""
    began = time.perf_counter()
    body: dict[str, Any] = {"model": adapter, "prompt": PROMPT, "max_tokens": 1, "temperature": 0}
    async with session.post("/v1/completions", json=body) as answer:
        text = await answer.text()
        if answer.status != 200:
            raise NothingSeen(f"{adapter} was not answered: {answer.status} {text[:500]}")
    ended = time.perf_counter()
    return ended - began, max(after - before for before, after in pairwise([*heard, ended]) if after > began)


async def _loads(session: aiohttp.ClientSession) -> float | None:
    """Of all adapters so far; None where the server does not tell."""
    async with session.get("/metrics") as answer:
        page = await answer.text()
    return adapters.loads(page)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serve-app switching", description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="http://127.0.0.1:8000", help="the service (default: %(default)s)")
    parser.add_argument("--model", required=True, help="the model that the adapters are of")
    parser.add_argument("--rounds", type=whole(), default=3, help="over all of its adapters (default: %(default)s)")
    parser.add_argument("--api-key", default=os.environ.get(API_KEY_VARIABLE, ""), help=f"or {API_KEY_VARIABLE}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
