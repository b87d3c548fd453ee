"""Prints how long the streams of an engine stand still while adapters are loaded, beside streams that nobody disturbs.

`python -m tests.scripts.adapter_gap` serves the demo's text model. Three kinds of rounds take turns, so that whatever
else runs on the machine is in all of them: without loads, with loads as the service does them, and with loads as vLLM's
`add_lora` does them alone, which reads the files between two steps.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from serve_app.adapters.directory import AdapterDirectory
from serve_app.config.schema import ImageConfig, ServiceConfig
from serve_app.planning.resolve import resolve
from tests.support.adapters import copied

STREAMS = 4
ROUND_S = 2.0
ROUNDS = 8
LOAD_EVERY_S = 0.2
KINDS = ("no loads", "loads", "loads by add_lora alone")


async def stream(llm: Any, gaps: list[float]) -> None:
    """Tokens one after the other, without an end; how far apart they come."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    params = SamplingParams(max_tokens=2000, ignore_eos=True, output_kind=RequestOutputKind.DELTA)
    for number in itertools.count():
        last = None
        tokens: AsyncIterator[Any] = llm.generate({"prompt_token_ids": [5, 6, 7]}, params, f"{id(gaps)}-{number}")
        async for _ in tokens:
            now = time.perf_counter()
            if last is not None:
                gaps.append(now - last)
            last = now


async def main() -> None:
    from serve_app.engine.vllm import VllmEngine

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number in range(4):
            copied(root / f"a{number}")
        adapters = {"directory": folder, "max_loaded": 1, "max_rank": 8}
        entry = {"id": "lfm2-demo", "gpus": 0, "adapters": adapters, "engine_args": {"stream_interval": 1}}
        model = resolve(ServiceConfig.parse({"models": [entry]})).config.models[0]
        engine = await VllmEngine.start(model, ImageConfig())
        assert engine.adapters is not None
        loader: Any = engine.adapters._loader
        read = loader._read
        found = itertools.cycle(AdapterDirectory(model).look())
        gaps: list[list[float]] = [[] for _ in range(STREAMS)]
        streams = [asyncio.create_task(stream(engine._llm, one)) for one in gaps]
        await asyncio.sleep(ROUND_S)
        longest: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for kind in KINDS * ROUNDS:
            loader._read = read if kind != KINDS[2] else _nothing
            for one in gaps:
                one.clear()
            until = time.monotonic() + ROUND_S
            while time.monotonic() < until:
                if kind != KINDS[0]:
                    async with engine.adapters.use(next(found)):
                        pass
                await asyncio.sleep(LOAD_EVERY_S)
            longest[kind].append(1000 * max(gap for one in gaps for gap in one))
        for kind, found_ms in longest.items():
            print(
                f"{kind}: longest gap of a round {statistics.median(found_ms):.1f} ms (median of {ROUNDS})", flush=True
            )
        for one in streams:
            one.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        await engine.stop()


async def _nothing(request: Any) -> None: ...


if __name__ == "__main__":
    asyncio.run(main())
