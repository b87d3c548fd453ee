"""Begins answers on a demo model's engine, and goes on with each of them on it from every one of its events.

`python -m tests.scripts.continued_engine MODEL` reads a JSON object of requests by name, `[path, body]` each, and
prints for each name how many events its answer has, whether it can be continued, its events, and those of answers that
came out otherwise where they were continued, with the number of events that were there before.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import httpx
from starlette.types import Receive, Scope, Send

from serve_app.adapters.adapter import listed
from serve_app.config.schema import ImageConfig, ServiceConfig
from serve_app.engine import platform
from serve_app.planning.resolve import resolve
from serve_app.replica.ledger import Account, Ledger
from serve_app.replica.protocol import ADAPTER_HEADER
from tests.support.continued import Asking, tried
from tools.demo.facts import TEXT_MODEL


async def main() -> None:
    platform.CPU_ENVIRONMENT["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"
    from serve_app.engine.vllm import VllmEngine

    entry: dict[str, Any] = {"id": sys.argv[1], "engine_args": {"dtype": "float32"}}
    if sys.argv[1] == TEXT_MODEL:
        entry["adapters"] = {"max_rank": 8, "list": [{"id": "kettle", "source": "package:demo/adapters/kettle"}]}
    model = resolve(ServiceConfig.parse({"models": [entry]})).config.models[0]
    engine = await VllmEngine.start(model, ImageConfig())
    headers = {one.id: {ADAPTER_HEADER.decode(): bytes(one).decode()} for one in listed(model.adapters)}

    async def accounted(scope: Scope, receive: Receive, send: Send) -> None:
        with Ledger("m").account(Account("")):
            await engine.app(scope, receive, send)

    transport = httpx.ASGITransport(accounted)
    for name, (path, body) in json.load(sys.stdin).items():
        own = headers.get(body["model"], {})
        async with httpx.AsyncClient(transport=transport, base_url="http://a", timeout=60, headers=own) as client:
            print(json.dumps({"name": name} | await tried(Asking(client, path, body))), flush=True)
    await engine.stop()


if __name__ == "__main__":
    asyncio.run(main())
