"""The comparisons that `loadtests.compare` can run: a model on a kind of machine, contenders, loads."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import serve_app
from loadtests.bench import adapters
from loadtests.bench.adapters import PeerAdapters
from loadtests.bench.contenders import (
    ANYWHERE,
    ENGINE_ALONE,
    GPU_ONLY,
    OURS_CPU,
    OURS_ENDING,
    OURS_GPU,
    OURS_TRACED,
    Contender,
)
from loadtests.bench.loads import RECOMMENDED, BenchLoad, arrivals, chat, image, of_adapters, shared_prefix
from loadtests.bench.peers.setup import PeerSetup
from loadtests.results.slo import Slo
from serve_app.config.schema import ModelConfig
from serve_app.engine import platform
from serve_app.planning.gpus import VISIBLE, installed, seen

DEMO = Path(serve_app.__file__).parent / "demo"
SLO = Slo.parse("ttft=500ms,tpot=50ms")
STREAMS_A_GPU = 512
ARRIVALS_A_GPU = 250
"""Requests a second."""
ADAPTER_COUNTS = (1, 8, 32)
ADAPTERS = max(ADAPTER_COUNTS)
MAX_LOADED = 8
GPU_RANK = 16
"""Of random adapters; PEFT's own default is 8, and most that are published have 8 to 32."""


@dataclass(frozen=True)
class Suite:
    """One model, who serves it, and what is asked of them."""

    setup: PeerSetup
    contenders: dict[str, Contender]
    """By the short name that `--contenders` takes."""
    loads: dict[str, BenchLoad]
    slo: Slo
    baseline: str = "vllm"
    """The contender that ratios refer to."""


def cpu_text() -> Suite:
    """lfm2-demo on this machine's CPU."""
    demo = ModelConfig(id="lfm2-demo")
    setup = PeerSetup(
        model="lfm2-demo",
        source=str(DEMO / "lfm2-demo"),
        gpu=False,
        engine_args={"max_model_len": 2048},
        platform_args=platform.engine_args(demo, None),
        environment=platform.environment(demo),
        streams=64,
        question="Hello",
        answer="Ask me about LFM2 on Ray Serve",
    )
    loads = {
        "chat-1": chat(1, 64, 64),
        "chat-32": chat(32, 64, 64, rounds=20),
        "prefix": shared_prefix(8, 64, 512, 32, 32, rounds=40),
    }
    return Suite(setup, OURS_CPU | ANYWHERE, loads, SLO)


def cpu_adapters() -> Suite:
    """lfm2-demo and its adapters, each under many names, on this machine's CPU."""
    given = PeerAdapters(ADAPTERS, adapters.DEMO_RANK, MAX_LOADED, adapters.demo, "ASK ME ABOUT")
    setup = replace(cpu_text().setup, adapters=given)
    contenders = {name: (OURS_CPU | ANYWHERE)[name] for name in ("ours-1", "ours-2", "ours-2-plain", "vllm", "vllm-x2")}
    return Suite(setup, contenders, _of_adapters(chat(32, 64, 64, rounds=20)), SLO)


def cpu_vision() -> Suite:
    """lfm2-vl-demo on this machine's CPU."""
    demo = ModelConfig(id="lfm2-vl-demo")
    setup = PeerSetup(
        model="lfm2-vl-demo",
        source=str(DEMO / "lfm2-vl-demo"),
        gpu=False,
        engine_args={"max_model_len": 2048},
        platform_args=platform.engine_args(demo, None),
        environment=platform.environment(demo),
        streams=64,
    )
    return Suite(setup, {"ours-1": OURS_CPU["ours-1"]} | ANYWHERE, {"image": image(4, 512, 32, 16)}, SLO)


def path() -> Suite:
    """What the way from the client to an engine costs: a simulated engine that emits a chunk every 10 ms."""
    timing = {"prefill_tokens_per_s": 1e9, "step_base_ms": 10.0, "step_per_sequence_ms": 0.0, "kv_tokens": 1_000_000}
    setup = PeerSetup(
        model="simulated",
        source="",
        tokenizer=str(DEMO / "lfm2-demo"),
        gpu=False,
        model_options={"engine": "simulated", "simulated": timing},
        streams=128,
    )
    contenders = ENGINE_ALONE | {"ours-1": OURS_CPU["ours-1"], "ours-1-ending": OURS_ENDING} | OURS_TRACED
    loads = {"chat-1": chat(1, 64, 64), "chat-128": chat(128, 64, 64, rounds=10)}
    return Suite(setup, contenders, loads, SLO, baseline="alone")


def gpu_text(source: str) -> Suite:
    """LFM2-1.2B, or its shape with random weights, on one GPU."""
    setup = _gpu_setup("LiquidAI/LFM2-1.2B", source)
    loads = {f"chat-{n}": chat(n, rounds=24 if n == 1 else 5) for n in (1, 32, 256, 512)}
    loads |= {f"varied-{n}": chat(n, spread=0.5, name="varied chat") for n in (256, 512)}
    loads |= {f"open-{n}": arrivals(n) for n in (100, 250)}
    loads["chat-256-sampled"] = replace(chat(256, name="recommended sampling"), sampling=RECOMMENDED)
    loads |= {"long": chat(64, 4096, 64, "long prompt"), "prefix": shared_prefix(128, 64, 2048, 128, 64)}
    return Suite(setup, OURS_GPU | ANYWHERE | GPU_ONLY, loads, Slo.parse("ttft=200ms,tpot=20ms"))


def gpu_adapters(source: str) -> Suite:
    """LFM2-1.2B, or its shape with random weights, and random adapters on one GPU."""
    one = gpu_text(source)
    given = PeerAdapters(ADAPTERS, GPU_RANK, MAX_LOADED, adapters.random(source, GPU_RANK))
    names = ("ours-1", "ours-4-mps", "ours-4-mps-plain", "vllm", "vllm-rust", "vllm-x4")
    contenders = {name: one.contenders[name] for name in names}
    return Suite(replace(one.setup, adapters=given), contenders, _of_adapters(chat(256)), one.slo)


def _of_adapters(load: BenchLoad) -> dict[str, BenchLoad]:
    """A load on the model itself, then on more and more of its adapters."""
    return {"base": load} | {f"adapters-{n}": of_adapters(n, load) for n in ADAPTER_COUNTS}


def gpu_host(source: str) -> Suite:
    """The same model on all GPUs that this process sees, and on as many streams for each as on one."""
    one = gpu_text(source)
    gpus = max(1, len(seen(installed(), os.environ.get(VISIBLE))))
    streams = STREAMS_A_GPU * gpus
    setup = replace(one.setup, gpus=gpus, streams=streams)
    loads = {"varied": chat(streams, spread=0.5, name="varied chat"), "chat": chat(streams)}
    loads["open"] = arrivals(ARRIVALS_A_GPU * gpus)
    chosen = {name: one.contenders[name] for name in ("ours-4-mps", "ours-8-mps", "vllm", "vllm-rust", "vllm-api4")}
    return Suite(setup, chosen, loads, one.slo)


def gpu_vision(source: str) -> Suite:
    """LFM2-VL-1.6B, or its shape with random weights, on one GPU."""
    setup = _gpu_setup("LiquidAI/LFM2-VL-1.6B", source)
    return Suite(
        setup, OURS_GPU | ANYWHERE | GPU_ONLY, {"image": image(64, 512, 64, 64)}, Slo.parse("ttft=500ms,tpot=20ms")
    )


def _gpu_setup(model: str, source: str) -> PeerSetup:
    local = Path(source)
    random_weights = local.is_dir() and not list(local.glob("*.safetensors"))
    args: dict[str, Any] = {"max_model_len": 8192}
    return PeerSetup(
        model=model,
        source=source,
        gpu=True,
        engine_args=args | ({"load_format": "dummy"} if random_weights else {}),
        model_options={"tool_parser": None} if random_weights else {},
    )


def refuse_source(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Ends the command where `--source` names weights for a suite that has its own."""
    if args.source and not args.suite.startswith("gpu-"):
        parser.error(f"--source is for suites on a GPU: {args.suite} has a model of its own")


SUITES: dict[str, Callable[[str], Suite]] = {
    "path": lambda source: path(),
    "cpu-text": lambda source: cpu_text(),
    "cpu-adapters": lambda source: cpu_adapters(),
    "cpu-vision": lambda source: cpu_vision(),
    "gpu-text": lambda source: gpu_text(source or "LiquidAI/LFM2-1.2B"),
    "gpu-adapters": lambda source: gpu_adapters(source or "LiquidAI/LFM2-1.2B"),
    "gpu-host": lambda source: gpu_host(source or "LiquidAI/LFM2-1.2B"),
    "gpu-vision": lambda source: gpu_vision(source or "LiquidAI/LFM2-VL-1.6B"),
}

SIMULATED_RUNNING = 32
"""Sequences of one simulated engine: few enough for this machine's cores not to be what bounds several."""
SETUPS: dict[str, Callable[[str], PeerSetup]] = {
    "cpu-text": lambda source: cpu_text().setup,
    "gpu-text": lambda source: gpu_text(source or "LiquidAI/LFM2-1.2B").setup,
    "simulated": lambda source: replace(path().setup, streams=SIMULATED_RUNNING),
}
"""The models of measurements that have loads of their own: `loadtests.offline` and `loadtests.interference`."""
