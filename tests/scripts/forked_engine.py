"""Starts a demo model's engine as GPUs have it, forked from a process made ready beside the replica; answers once.

`python -m tests.scripts.forked_engine` prints the answer and the engine's process id, then kills itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal

import httpx

from serve_app.config.schema import ImageConfig, ServiceConfig
from serve_app.engine import platform
from serve_app.planning.resolve import resolve

MODEL = "lfm2-demo"


async def main() -> None:
    platform.CPU_ENVIRONMENT["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"
    platform.is_forked = lambda model: True
    from serve_app.engine.vllm import VllmEngine

    model = resolve(ServiceConfig.parse({"models": [{"id": MODEL}]})).config.models[0]
    engine = await VllmEngine.start(model, ImageConfig())
    body = {"model": MODEL, "prompt": "Hello", "max_tokens": 4, "temperature": 0, "ignore_eos": True}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(engine.app), base_url="http://engine") as client:
        answer = (await client.post("/v1/completions", json=body)).json()
    (process,) = engine._llm.engine_core.resources.engine_manager.processes
    told = {"tokens": answer["usage"]["completion_tokens"], "engine": process.pid, "kind": type(process).__name__}
    print(json.dumps(told), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(main())
