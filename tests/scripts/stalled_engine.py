"""Starts a demo model's engine in a process of its own and stops that process while a request is in it.

`python -m tests.scripts.stalled_engine` prints what the engine says is wrong before, meanwhile and after.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal

import httpx

from serve_app.config.schema import ImageConfig, ServiceConfig
from serve_app.engine import platform, stall
from serve_app.planning.resolve import resolve

MODEL = "lfm2-demo"


async def main() -> None:
    platform.CPU_ENVIRONMENT["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"
    stall.LEAST_S = 3.0
    from serve_app.engine.vllm import VllmEngine

    model = resolve(ServiceConfig.parse({"models": [{"id": MODEL}]})).config.models[0]
    engine = await VllmEngine.start(model, ImageConfig())
    (process,) = engine._llm.engine_core.resources.engine_manager.processes
    body = {"model": MODEL, "prompt": "Hello", "max_tokens": 1500, "temperature": 0, "ignore_eos": True}
    told: list[str | None] = []
    async with httpx.AsyncClient(transport=httpx.ASGITransport(engine.app), base_url="http://engine") as client:
        await client.post("/v1/completions", json=body | {"max_tokens": 4})
        await asyncio.sleep(stall.LEAST_S + 1)
        told.append(engine.failure())
        asking = asyncio.create_task(client.post("/v1/completions", json=body))
        await asyncio.sleep(0.5)
        told.append(engine.failure())
        os.kill(process.pid, signal.SIGSTOP)
        async with asyncio.timeout(60):
            while (reason := engine.failure()) is None:
                await asyncio.sleep(0.2)
        told.append(reason)
        print(json.dumps({"told": told, "answered": asking.done()}), flush=True)
    os.kill(process.pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(main())
