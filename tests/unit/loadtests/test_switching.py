"""What a switch of adapters costs, seen by a client of a simulated engine whose costs are known."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from loadtests import switching
from serve_app.adapters.adapter import Adapter
from serve_app.config.schema import ModelConfig, Simulated
from serve_app.engine.simulation import SimulatedEngine
from serve_app.replica.protocol import ADAPTER_HEADER

LOAD_MS, STALL_MS = 100.0, 400.0


class Fronted:
    """An engine as an ingress shows it: with its adapters in its list of models, and their requests marked."""

    def __init__(self, engine: SimulatedEngine, adapters: list[str]) -> None:
        self._engine = engine
        self._adapters = adapters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/metrics":
            await self._engine.app(scope, receive, send)
        elif scope["path"] == "/v1/models":
            listed = [{"id": "m", "parent": None}, *({"id": one, "parent": "m"} for one in self._adapters)]
            await JSONResponse({"data": listed})(scope, receive, send)
        else:
            message = await receive()
            model = json.loads(message["body"])["model"]
            if model in self._adapters:
                scope["headers"] = [*scope["headers"], (ADAPTER_HEADER, bytes(Adapter(model, model)))]
            first = [message]

            async def again() -> Message:
                return first.pop() if first else await receive()

            await self._engine.app(scope, again, send)


@contextlib.asynccontextmanager
async def served(adapters: list[str], max_loaded: int) -> AsyncIterator[str]:
    timing = Simulated(step_base_ms=5, adapter_load_ms=LOAD_MS, adapter_stall_ms=STALL_MS)
    own: Any = {"max_loaded": max_loaded, "directory": "/"}
    engine = SimulatedEngine(ModelConfig(id="m", engine="simulated", simulated=timing, adapters=own))
    server = uvicorn.Server(uvicorn.Config(Fronted(engine, adapters), port=0, log_level="critical"))
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        await engine.stop()


async def test_a_load_and_what_a_stream_waits_for_it_are_seen() -> None:
    async with served(["a", "b", "c"], max_loaded=1) as url:
        found = await switching.measure(url, "m", 1)
    assert len(found) == 3
    assert all(one.load_s > 0.5 * (LOAD_MS + STALL_MS) / 1000 for one in found)
    assert all(one.stall_s > 0.5 * STALL_MS / 1000 for one in found)
    told = switching.report(found)
    assert told.startswith("3 loads, ms") and "--timing adapter_load_ms=" in told


async def test_a_model_without_adapters_is_told() -> None:
    async with served([], max_loaded=1) as url:
        with pytest.raises(switching.NothingSeen, match="no adapters"):
            await switching.measure(url, "m", 1)
