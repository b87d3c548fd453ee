"""Begins answers on a demo model's engine, and goes on with each of them on it from every one of its events.

`python -m tests.scripts.continued_engine MODEL` reads a JSON object of requests by name, `[path, body]` each, and
prints for each name how many events its answer has, whether it can be continued, its events, and those of answers that
came out otherwise where they were continued, with the number of events that were there before.
"""

from __future__ import annotations

import asyncio
import json
import sys

import httpx
from starlette.types import Receive, Scope, Send

from serve_app.config.schema import ImageConfig, ServiceConfig
from serve_app.engine import platform
from serve_app.planning.resolve import resolve
from serve_app.replica.ledger import Account, Ledger
from tests.support.continued import Asking, tried


async def main() -> None:
    platform.CPU_ENVIRONMENT["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"
    from serve_app.engine.vllm import VllmEngine

    config = ServiceConfig.parse({"models": [{"id": sys.argv[1], "engine_args": {"dtype": "float32"}}]})
    engine = await VllmEngine.start(resolve(config).config.models[0], ImageConfig())

    async def accounted(scope: Scope, receive: Receive, send: Send) -> None:
        with Ledger("m").account(Account("")):
            await engine.app(scope, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(accounted), base_url="http://a", timeout=60) as client:
        for name, (path, body) in json.load(sys.stdin).items():
            print(json.dumps({"name": name} | await tried(Asking(client, path, body))), flush=True)
    await engine.stop()


if __name__ == "__main__":
    asyncio.run(main())
