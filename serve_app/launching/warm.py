"""`serve-app warm CONFIG`: fill the compile cache, so that replicas start in seconds, also the first on a new node.

Starts the engine of each model once on this machine, without Ray, asks it for an answer and ends it. What it compiles
stays in the folder that `serve-app check` names; put that into an image, or on a file system that nodes share. Run it
on the kind of GPU that will serve. It also writes the byte code that an installation has left out, which a host that
writes none (PYTHONDONTWRITEBYTECODE) would make anew at each start.
"""

from __future__ import annotations

import argparse
import asyncio
import compileall
import json
import multiprocessing
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

from starlette.types import ASGIApp, Message

from serve_app.config.errors import ConfigError
from serve_app.config.file import load
from serve_app.config.schema import ModelConfig, ServiceConfig
from serve_app.planning import compile_cache
from serve_app.planning.machine import check_machine
from serve_app.planning.resolve import gpu_share, resolve

TOKENS = 4


def main(argv: Sequence[str] | None = None) -> int:
    """0 when every engine answered."""
    parser = argparse.ArgumentParser(prog="serve-app warm", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path, help="a configuration, such as configs/lfm2-1gpu.yaml")
    args = parser.parse_args(argv)
    try:
        file = load(args.config)
        check_machine(file)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    began = time.monotonic()
    complete = compileall.compile_dir(sysconfig.get_path("purelib"), quiet=2, workers=0)
    _say(f"byte code: {'complete' if complete else 'as far as it can be made'} after {time.monotonic() - began:.0f} s")
    services = [resolve(one.config).config for one in file.applications]
    warm = [_warm(model, one) for one in services for model in one.models if model.engine == "vllm"]
    for folder in sorted({compile_cache.folder(one.cache_directory) for one in services}):
        _say(f"{folder}: {_mib(folder):.0f} MiB")
    return 0 if all(warm) else 1


def _warm(model: ModelConfig, service: ServiceConfig) -> bool:
    """Whether the engine answered. It has a process of its own, so that nothing of it stays on the GPU."""
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(model, service))
    process.start()
    process.join()
    if process.exitcode:
        print(f"{model.id}: its engine did not start or answer; what it said is above", file=sys.stderr)
    return not process.exitcode


def _run(model: ModelConfig, service: ServiceConfig) -> None:
    sys.exit(0 if asyncio.run(_answers(model, service)) else 1)


async def _answers(model: ModelConfig, service: ServiceConfig) -> bool:
    from serve_app.engine.vllm import VllmEngine

    began = time.monotonic()
    engine = await VllmEngine.start(model, service.images, service.cache_directory)
    started = time.monotonic()
    try:
        status = await _ask(engine.app, model)
        where = "a GPU" if gpu_share(model) else "the CPU, where nothing is compiled"
        took = f"started in {started - began:.1f} s, answered in {time.monotonic() - started:.2f} s"
        _say(f"{model.id}: {took} on {where}" if status == 200 else f"{model.id}: answered with status {status}")
    finally:
        await engine.stop()
    return status == 200


async def _ask(app: ASGIApp, model: ModelConfig) -> int:
    """The status of a short answer."""
    embeds = model.kind == "embedding"
    path = "/v1/embeddings" if embeds else "/v1/completions"
    question = {"input": "Hello"} if embeds else {"prompt": "Hello", "max_tokens": TOKENS}
    body = json.dumps({"model": model.id, **question}).encode()
    status = 0
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
    received = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Message:
        if (message := next(received, None)) is None:
            await asyncio.Event().wait()
        return message or {}

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)

    await app({**scope, "headers": headers, "http_version": "1.1", "scheme": "http", "app": app}, receive, send)
    return status


def _mib(folder: Path) -> float:
    """What is in it, MiB; 0 where there is none."""
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file()) / 2**20


def _say(text: str) -> None:
    print(text, flush=True)
