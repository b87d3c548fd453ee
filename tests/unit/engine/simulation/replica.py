"""A simulated engine behind a server of its own, and a client of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import uvicorn

from serve_app.config.schema import ModelConfig, Simulated
from serve_app.engine.simulation import SimulatedEngine

FAST = {"step_base_ms": 1.0, "step_per_sequence_ms": 0.0, "prefill_tokens_per_s": 1e6}
HELLO: list[Any] = [{"role": "user", "content": "Hello, how are you today?"}]


@dataclass
class Replica:
    engine: SimulatedEngine
    url: str

    @property
    def client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    async def post(self, path: str, body: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with httpx.AsyncClient(base_url=self.url, timeout=20) as http:
            return await http.post(path, content=content)

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url, timeout=20) as http:
            return await http.get(path)

    async def until(self, *, running: int, waiting: int = 0) -> None:
        async with asyncio.timeout(5):
            while (self.engine.load().running, self.engine.load().waiting) != (running, waiting):
                await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def served(timing: dict[str, Any] = FAST, **more: Any) -> AsyncIterator[Replica]:
    model = ModelConfig(id="sim/one", aliases=("one",), engine="simulated", simulated=Simulated(**timing), **more)
    engine = await SimulatedEngine.start(model)
    server = uvicorn.Server(uvicorn.Config(engine.app, port=0, log_level="critical", timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.sleep(0.005)
        yield Replica(engine, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
    finally:
        server.should_exit = True
        await task
        await engine.stop()
