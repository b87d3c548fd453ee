"""Ray's own LLM library, ray.serve.llm."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from loadtests.bench.peers import serve_file
from loadtests.bench.peers.peer import Peer
from loadtests.bench.peers.setup import PeerSetup
from serve_app.launching.environment import environment


def ray_llm(setup: PeerSetup, port: int, folder: Path, *, direct: bool) -> Peer:
    """One replica with the library's defaults, or in its direct streaming mode behind HAProxy."""
    kind = "direct streaming" if direct else "defaults"
    llm: dict[str, Any] = {
        "model_loading_config": {"model_id": setup.model, "model_source": setup.source},
        "engine_kwargs": {"max_num_seqs": setup.streams, **setup.engine_args, **setup.platform_args},
        "deployment_config": {"num_replicas": 1, "max_ongoing_requests": 2 * setup.streams},
    }
    args: dict[str, Any] = {"llm_configs": [llm]}
    if not setup.gpu:
        # What it asks Ray for by default does not fit on two cores; it is a reservation and limits nothing.
        llm["placement_group_config"] = {"bundles": [{"CPU": 0.5}]}
        if not direct:
            args["ingress_deployment_config"] = {"ray_actor_options": {"num_cpus": 0.25}}
    config = serve_file.write(
        folder / f"ray-llm-{'direct' if direct else 'defaults'}.yaml",
        args,
        port=port,
        name="peer",
        import_path="ray.serve.llm:build_openai_app",
    )
    # A short name: HAProxy's socket lies below it, and the name of a socket has 97 characters at most.
    files = folder / ("d" if direct else "p")
    files.mkdir(exist_ok=True)
    switch = "1" if direct else "0"
    # The same local cluster as this project's, but for the proxy: its default is Serve's Python one.
    variables = environment("peer", files) | {
        "RAY_SERVE_ENABLE_HA_PROXY": switch,
        "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING": switch,
        "RAY_ADDRESS": "local",
    }
    return Peer(
        f"ray.serve.llm ({kind})",
        [sys.executable, "-m", "ray.serve.scripts", "run", str(config)],
        f"http://127.0.0.1:{port}",
        variables,
    )
