"""`serve-app interference SUITE`: what a person's chat notices of a batch that runs on the same service.

One client chats, a streamed request after the other with a pause between, first alone, then while `serve_app.batch`
works through a file that does not end before it. Prints the time to first token of both, and their ratio at p95.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtests.arguments import above_zero, whole
from loadtests.bench.peers.ours import ours
from loadtests.bench.peers.peer import DidNotServe, RunningPeer
from loadtests.bench.peers.setup import PeerSetup
from loadtests.bench.suites import SETUPS, refuse_source
from loadtests.loadgen.sse import Stream
from loadtests.results import tables
from loadtests.results.percentiles import percentile
from serve_app.launching.environment import free_ports

BATCH_LINES = 50_000
INTERRUPTED = 130
SETTLES_S = 5.0
"""For the batch to reach its pace, and for the engines to be as full as it fills them."""


class ChatFailed(Exception):
    """There is no figure; says why."""


def main(argv: Sequence[str] | None = None) -> int:
    """0 when both were measured, 1 with the reason when they could not be."""
    parser = _parser()
    args = parser.parse_args(argv)
    refuse_source(parser, args)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _measure(args)
    except (DidNotServe, ChatFailed) as failure:
        print(str(failure)[-3000:], file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED


def _measure(args: argparse.Namespace) -> int:
    setup = SETUPS[args.suite](args.source)
    with tempfile.TemporaryDirectory(prefix="makes-way-") as name:
        folder = Path(name)
        peer = ours(setup, free_ports(1)[0], folder, replicas=args.replicas, ingresses=1)
        with RunningPeer(peer, setup, folder) as running:
            _chat(peer.url, setup, args.requests // 4, args.pause_s)
            alone = _chat(peer.url, setup, args.requests, args.pause_s)
            batch = subprocess.Popen(
                _batch(peer.url, setup, folder), stdout=subprocess.DEVNULL, env={**os.environ, **running.mark}
            )
            try:
                time.sleep(SETTLES_S)
                began, before = time.monotonic(), _answered(folder)
                beside = _chat(peer.url, setup, args.requests, args.pause_s)
                lines_per_s = (_answered(folder) - before) / (time.monotonic() - began)
                if batch.poll() is not None:
                    raise ChatFailed(f"the batch ended with {batch.returncode} before the chat did")
            finally:
                batch.terminate()
                batch.wait(30)
    figures = {"alone": _figures(alone), "beside a batch": _figures(beside)}
    rows = [[kind, *(f"{one[key]:.1f}" for key in ("p50_ms", "p95_ms", "most_ms"))] for kind, one in figures.items()]
    print(tables.aligned([["TTFT, ms", "p50", "p95", "most"], *rows]))
    ratio = figures["beside a batch"]["p95_ms"] / figures["alone"]["p95_ms"]
    print(f"p95 ratio {ratio:.2f}; the batch meanwhile: {lines_per_s:.1f} lines/s")
    if args.json:
        args.json.write_text(json.dumps({**figures, "ratio_p95": ratio, "batch_lines_per_s": lines_per_s}))
    return 0


def _chat(url: str, setup: PeerSetup, requests: int, pause_s: float) -> list[float]:
    """Seconds to the first token of each request."""
    seen = []
    for number in range(requests):
        messages = [{"role": "user", "content": f"What is number {number}?"}]
        body = {"model": setup.model, "messages": messages, "max_tokens": 16, "stream": True, "temperature": 0}
        try:
            seen.append(_first_token(url, body))
        except OSError as error:
            raise ChatFailed(f"request {number} of the chat was not answered: {error}") from error
        time.sleep(pause_s)
    return seen


def _first_token(url: str, body: dict[str, Any]) -> float:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
    stream = Stream()
    began = time.monotonic()
    with urllib.request.urlopen(request, timeout=60) as answer:
        for line in answer:
            stream.line(line, time.monotonic())
    if stream.first_s is None:
        raise ChatFailed(f"an answer of {url} has no token: there is no time to its first")
    return stream.first_s - began


def _batch(url: str, setup: PeerSetup, folder: Path) -> list[str]:
    input = folder / "in.jsonl"
    with input.open("w") as lines:
        for number in range(BATCH_LINES):
            messages = [{"role": "user", "content": f"Tell me about {number}."}]
            body = {"model": setup.model, "messages": messages, "max_tokens": 64, "ignore_eos": True}
            line = {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}
            lines.write(json.dumps(line) + "\n")
    out = str(folder / "out.jsonl")
    return [sys.executable, "-m", "serve_app.batch", str(input), "--out", out, "--base-url", url, "--quiet"]


def _answered(folder: Path) -> int:
    out = folder / "out.jsonl"
    return out.read_bytes().count(b"\n") if out.exists() else 0


def _figures(seconds: list[float]) -> dict[str, float]:
    return {
        "p50_ms": 1000 * percentile(seconds, 50),
        "p95_ms": 1000 * percentile(seconds, 95),
        "most_ms": 1000 * max(seconds),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serve-app interference", description=__doc__.splitlines()[0])
    parser.add_argument("suite", choices=SETUPS)
    parser.add_argument("--source", default="", help="weights on a GPU: a path or repository (no weights: random ones)")
    parser.add_argument("--replicas", type=whole(), default=1)
    parser.add_argument("--requests", type=whole(2), default=300, help="of the chat, alone and again beside the batch")
    parser.add_argument("--pause-s", type=above_zero(), default=0.05, help="between the chat's requests")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
