"""The load client of comparisons: `vllm bench serve`, its Rust build where there is one.

Where vLLM has neither a Rust build nor a command line, `python_bench` beside this module is run in its place.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from loadtests.bench.loads import BenchLoad
from loadtests.results.comparison import Measurement
from loadtests.results.slo import Slo

TIMEOUT_S = 600.0
LORA_MODULES = "--lora-modules"
GOODPUT_NAMES = {"ttft": "ttft", "tpot": "tpot", "e2e": "e2el"}
"""What `vllm bench serve` calls the figures of an SLO."""


class BenchFailed(Exception):
    """The load client itself failed; carries the end of its output."""


def rust_client() -> Path | None:
    """vLLM's Rust binary: VLLM_RUST_FRONTEND_PATH, or the one in the installed wheel."""
    if given := os.environ.get("VLLM_RUST_FRONTEND_PATH"):
        return Path(given)
    spec = importlib.util.find_spec("vllm")
    shipped = Path(spec.origin).with_name("vllm-rs") if spec and spec.origin else None
    return shipped if shipped and os.access(shipped, os.X_OK) else None


def measure(url: str, model: str, tokenizer: str, load: BenchLoad, slo: Slo, seed: int) -> Measurement:
    """Put the load on `url` once; raises BenchFailed when the client does not finish."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*_client(load), *_arguments(url, model, tokenizer, load, slo, seed, folder)]
        before = _children_cpu_s()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as late:
            raise BenchFailed(f"{load.name}: no end after {TIMEOUT_S:g} s") from late
        spent = _children_cpu_s() - before
        written = Path(folder, "result.json")
        if done.returncode or not written.exists():
            raise BenchFailed(f"{load.name}: {(done.stdout + done.stderr)[-2000:]}")
        return _read(json.loads(written.read_text()), spent, load.requests)


def _client(load: BenchLoad) -> list[str]:
    """Several models are asked by Python's client where the Rust one has no option for them."""
    if (rust := rust_client()) and (not load.models or LORA_MODULES in _help(rust)):
        # Token ids, or it retokenizes every prompt until its length is exact, which a byte-level tokenizer never is.
        return [str(rust), "bench", "serve", "--prompt-token-ids"]
    return [sys.executable, "-m", "loadtests.bench.python_bench"]


@functools.cache
def _help(rust: Path) -> str:
    asked = [str(rust), "bench", "serve", "--help"]
    return subprocess.run(asked, capture_output=True, text=True, timeout=TIMEOUT_S, check=False).stdout


def _arguments(url: str, model: str, tokenizer: str, load: BenchLoad, slo: Slo, seed: int, folder: str) -> list[str]:
    named = {
        "backend": load.backend,
        "base-url": url,
        "endpoint": load.endpoint,
        "model": model,
        "tokenizer": tokenizer,
        "num-prompts": load.requests,
        "request-rate" if load.open_loop else "max-concurrency": load.streams,
        "seed": seed,
        "percentile-metrics": "ttft,tpot",
        "metric-percentiles": "50,99",
        "result-dir": folder,
        "result-filename": "result.json",
    }
    words = [word for key, value in named.items() for word in (f"--{key}", str(value))]
    limits = {name: slo.limit_s(figure) * 1000 for figure, name in GOODPUT_NAMES.items()}
    goodput = ["--goodput", *(f"{name}:{limit:g}" for name, limit in limits.items() if math.isfinite(limit))]
    words += [LORA_MODULES, *load.models] if load.models else []
    return [*words, *load.dataset, *load.sampling, "--ignore-eos", "--disable-tqdm", "--save-result", *goodput]


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _read(result: dict[str, Any], client_cpu_s: float, wanted: int) -> Measurement:
    """Raises BenchFailed where nothing was answered: its times would be zeros, the best there are."""
    if not result["completed"] or not result["output_throughput"]:
        raise BenchFailed(f"{result['completed']} of {wanted} requests were answered, with no token")
    return Measurement(
        tokens_per_s=result["output_throughput"],
        requests_per_s=result["request_throughput"],
        ttft_p50_ms=result["p50_ttft_ms"],
        ttft_p99_ms=result["p99_ttft_ms"],
        tpot_mean_ms=result["mean_tpot_ms"],
        tpot_p99_ms=result["p99_tpot_ms"],
        goodput_per_s=result.get("request_goodput") or result.get("request_goodput:") or 0.0,
        errors=wanted - result["completed"],
        client_cores=client_cpu_s / result["duration"],
    )
