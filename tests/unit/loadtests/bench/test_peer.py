"""A contender is started, checked, accounted for and ended."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from loadtests.bench.peers.ours import ours
from loadtests.bench.peers.peer import DidNotServe, Peer, RunningPeer
from loadtests.bench.peers.serve_default import build
from loadtests.bench.peers.setup import PeerSetup
from loadtests.bench.suites import SUITES
from serve_app.launching.environment import free_ports

SETUP = PeerSetup(model="m", source="", gpu=False, question="Hello", answer="world")
SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
tokens, text, port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
class Handler(BaseHTTPRequestHandler):
    def reply(self, body):
        self.send_response(200); self.end_headers(); self.wfile.write(json.dumps(body).encode())
    def do_GET(self): self.reply({})
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.reply({"usage": {"completion_tokens": tokens}, "choices": [{"message": {"content": text}}]})
    def log_message(self, *_): pass
sum(range(3_000_000))
HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
GIVEN_UP = """
import time
print("(ServeController pid=1) ERROR 2026-01-01 Failed to update the deployments ['m']: no room", flush=True)
time.sleep(60)
"""


def peer(tokens: int = 8, text: str = "Hello world", server: str = SERVER) -> Peer:
    port = free_ports(1)[0]
    command = [sys.executable, "-c", server, str(tokens), text, str(port)]
    return Peer("fake", command, f"http://127.0.0.1:{port}")


def test_runs_and_leaves_nothing(tmp_path: Path) -> None:
    with RunningPeer(peer(), SETUP, tmp_path) as running:
        assert running.cpu_seconds() > 0
        [pid] = running._family.members()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("contender", "complaint"),
    [
        (peer(tokens=7), "gave 7 tokens for 8"),
        (peer(text="nonsense"), "answered 'nonsense'"),
        (peer(server="raise SystemExit('no GPU here')"), "no GPU here"),
        (peer(server=GIVEN_UP), r"(?s)Ray Serve gave up on it.*no room"),
    ],
)
def test_one_that_serves_wrongly_is_not_measured(tmp_path: Path, contender: Peer, complaint: str) -> None:
    with pytest.raises(DidNotServe, match=complaint), RunningPeer(contender, SETUP, tmp_path):
        pass


@pytest.mark.parametrize(("replicas", "gpus"), [(1, 1), (4, 1), (4, 8)])
def test_our_own_configuration_is_right(tmp_path: Path, replicas: int, gpus: int) -> None:
    from serve_app.cli import main

    setup = replace(SUITES["gpu-host"]("").setup, gpus=gpus, streams=512 * gpus)
    contender = ours(setup, 8000, tmp_path, replicas=replicas, ingresses=2)
    assert main(["check", contender.command[4]]) == 0
    assert contender.ready_models == replicas * gpus
    args = yaml.safe_load(Path(contender.command[4]).read_text())["applications"][0]["args"]
    model, ingress = args["models"][0], args["ingress"]
    assert (model["replicas"], model["replicas_per_gpu"]) == (replicas * gpus, replicas)
    assert 512 * gpus <= model["max_running"] * replicas * gpus <= 700 * gpus and ingress["replicas"] == 2 * gpus
    assert model["cpus"] * replicas * gpus + ingress["cpus"] * 2 * gpus <= (os.cpu_count() or 2)


def test_serves_own_policy_gets_the_application_that_its_file_describes() -> None:
    args = {"models": [{"id": "m", "engine": "simulated", "max_running": 10, "autoscaling": {"max_replicas": 3}}]}
    scaling = build(args)._bound_deployment._deployment_config.autoscaling_config
    assert scaling is not None and (scaling.max_replicas, scaling.target_ongoing_requests) == (3, 7)
