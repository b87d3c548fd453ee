"""The simulated engine's HTTP server alone, without Ray or an ingress: what this project's path is measured against."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import uvicorn

from loadtests.bench.peers.peer import Peer
from loadtests.bench.peers.setup import PeerSetup
from serve_app.config.schema import ModelConfig
from serve_app.engine.simulation import SimulatedEngine


def bare(setup: PeerSetup, port: int, folder: Path) -> Peer:
    """One simulated engine of the setup's timing on a port."""
    model = {"id": setup.model, "engine": "simulated", "max_running": setup.streams, **setup.model_options}
    command = [sys.executable, "-m", "loadtests.bench.peers.bare", json.dumps(model), str(port)]
    return Peer("engine alone", command, f"http://127.0.0.1:{port}")


def main(model: dict[str, Any], port: int) -> None:
    app = SimulatedEngine(ModelConfig(**model)).app
    uvicorn.run(app, port=port, http="httptools", log_level="warning", access_log=False)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), int(sys.argv[2]))
