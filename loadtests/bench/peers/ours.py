"""This project as a contender, started as its users start it."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Any

from loadtests.bench.peers import serve_file, sink
from loadtests.bench.peers.peer import Peer
from loadtests.bench.peers.setup import PeerSetup

HEAD_ROOM = 1.25
"""Two random choices do not spread streams quite evenly: room each replica has above its even part."""


def ours(
    setup: PeerSetup,
    port: int,
    folder: Path,
    *,
    replicas: int,
    ingresses: int,
    mps: bool = False,
    affinity: bool = True,
    continues: bool = True,
    traced: float | None = None,
) -> Peer:
    """The whole stack, HAProxy and ingress included, with `replicas` engines on each GPU, or on the CPU; `traced` is
    the share of requests that are, where traces are on."""
    args = service_args(setup, replicas, ingresses)
    args["models"][0]["routing_policy"] = "prefix_affinity" if affinity else "least_loaded"
    if setup.adapters:
        found = setup.adapters.make(folder, setup.adapters.names)
        args["models"][0]["adapters"] = {
            "max_loaded": setup.adapters.max_loaded,
            "max_rank": setup.adapters.max_rank,
            "list": [{"id": name, "source": str(path)} for name, path in found.items()],
        }
    if not continues:
        args["ingress"]["continue_bytes"] = 0
    if traced is not None:
        args["tracing"] = {"endpoint": sink.url(), "sample": traced}
    differs = {
        "MPS": mps,
        "no affinity": not affinity,
        "no continuing": not continues,
        f"{traced or 0:.0%} traced": traced is not None,
    }
    also = [name for name, is_so in differs.items() if is_so]
    config = serve_file.write(folder / f"ours-{replicas}.yaml", args, port=port)
    name = ", ".join([f"this project, {replicas} replica{'s' if replicas > 1 else ''}{setup.on_each}", *also])
    return up(name, config, port, replicas * setup.gpus, *(["--mps"] if mps else []))


def up(name: str, config: Path, port: int, replicas: int, *options: str) -> Peer:
    """`serve-app up` with a configuration, ready when so many replicas are; `options` are further ones of that
    command."""
    events = config.with_suffix(".events.jsonl")
    command = [sys.executable, "-m", "serve_app", "up", str(config), "--port", str(port), "--events", str(events)]
    return Peer(
        name,
        [*command, *options],
        f"http://127.0.0.1:{port}",
        ready_path="/ready",
        ready_models=replicas,
        events=events,
    )


def service_args(setup: PeerSetup, replicas: int, ingresses: int) -> dict[str, Any]:
    """The `args` of a configuration with `replicas` engines, and `ingresses` before them, for each GPU, or on the
    CPU."""
    total, ingresses = replicas * setup.gpus, ingresses * setup.gpus
    each = math.ceil(setup.streams / total * (HEAD_ROOM if total > 1 else 1))
    # Everything fits Ray's count of cores, whatever the machine has: the operating system shares them out.
    cpus = round((os.cpu_count() or 2) / (total + ingresses + 1), 2)
    model: dict[str, Any] = {
        "id": setup.model,
        **({"source": setup.source} if setup.source else {}),
        "replicas": total,
        "cpus": cpus,
        "max_running": each,
        "engine_args": setup.engine_args,
        **setup.model_options,
    }
    model |= {"replicas_per_gpu": replicas} if setup.gpu else {"gpus": 0}
    return {"models": [model], "ingress": {"replicas": max(1, ingresses), "cpus": cpus}}
