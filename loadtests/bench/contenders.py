"""Who can be compared: each contender by the short name that `loadtests.compare --contenders` takes.

A contender is a function that, given the model, a port and a folder for its files, says how it is started. A new one is
a file in `loadtests/bench/peers` with such a function, and an entry here: in ANYWHERE if it runs without a GPU as well,
else in GPU_ONLY. Every suite of such machines has it then.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from loadtests.bench.peers.bare import bare
from loadtests.bench.peers.ours import ours
from loadtests.bench.peers.peer import Peer
from loadtests.bench.peers.ray_llm import ray_llm
from loadtests.bench.peers.setup import PeerSetup
from loadtests.bench.peers.vllm_packed import vllm_packed
from loadtests.bench.peers.vllm_serve import vllm_serve

Contender = Callable[[PeerSetup, int, Path], Peer]
"""Given what all contenders are given alike, a free port and a folder of its own."""

ANYWHERE: dict[str, Contender] = {
    "vllm": vllm_serve,
    "vllm-x2": partial(vllm_packed, servers=2),
    "ray-llm": partial(ray_llm, direct=False),
    "ray-llm-direct": partial(ray_llm, direct=True),
}
"""Others than this project, as far as vLLM's CPU build has them."""

GPU_ONLY: dict[str, Contender] = {
    "vllm-rust": partial(vllm_serve, rust=True),
    "vllm-x4": partial(vllm_packed, servers=4),
    "vllm-rust-x4": partial(vllm_packed, servers=4, rust=True),
    "vllm-api4": partial(vllm_serve, api_servers=4),
}
"""Others than this project that need a GPU."""

OURS_CPU: dict[str, Contender] = {
    "ours-1": partial(ours, replicas=1, ingresses=1),
    "ours-2": partial(ours, replicas=2, ingresses=1),
    "ours-2-plain": partial(ours, replicas=2, ingresses=1, affinity=False),
}
"""This project on a machine of few cores; `plain` is without affinity."""

OURS_GPU: dict[str, Contender] = {
    "ours-1": partial(ours, replicas=1, ingresses=1),
    "ours-2": partial(ours, replicas=2, ingresses=2),
    "ours-4": partial(ours, replicas=4, ingresses=4),
    "ours-8": partial(ours, replicas=8, ingresses=4),
    "ours-4-mps": partial(ours, replicas=4, ingresses=4, mps=True),
    "ours-8-mps": partial(ours, replicas=8, ingresses=4, mps=True),
    "ours-4-mps-plain": partial(ours, replicas=4, ingresses=4, mps=True, affinity=False),
}
"""This project with so many replicas on one GPU; `plain` is without affinity."""

OURS_ENDING = partial(ours, replicas=1, ingresses=1, continues=False)
"""This project where a stream ends with its replica: what it costs to be able to go on."""

OURS_TRACED: dict[str, Contender] = {
    "ours-1-sampled": partial(ours, replicas=1, ingresses=1, traced=0.01),
    "ours-1-traced": partial(ours, replicas=1, ingresses=1, traced=1.0),
}
"""This project where one request in a hundred is traced, and where each is."""

ENGINE_ALONE: dict[str, Contender] = {"alone": bare}
"""A simulated engine without a service around it."""
