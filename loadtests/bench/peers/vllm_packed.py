"""Several `vllm serve` packed on one GPU by hand, HAProxy in front: what this project does, without this project."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

from loadtests.bench.peers.peer import Peer
from loadtests.bench.peers.setup import PeerSetup
from loadtests.bench.peers.vllm_serve import vllm_serve
from serve_app.launching.environment import free_ports, haproxy_binary

KV_CACHE_BYTES = 8 * 2**30
"""Of one server on a GPU, as an absolute size: vLLM's own measuring goes wrong while neighbours start."""
HAPROXY = """
global
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 3600s
  timeout server 3600s
frontend in
  bind 127.0.0.1:{port}
  default_backend servers
backend servers
  balance leastconn
  http-reuse always
{servers}
"""


def vllm_packed(setup: PeerSetup, port: int, folder: Path, *, servers: int, rust: bool = False) -> Peer:
    """`servers` times `vllm serve`, the first alone so that the others find its compiled graphs."""
    ports = free_ports(servers)
    share = {"gpu_memory_utilization": round(0.9 / servers, 3), "kv_cache_memory_bytes": KV_CACHE_BYTES}
    each = replace(setup, platform_args=setup.platform_args | share) if setup.gpu else setup
    peers = [vllm_serve(each, one, folder, rust=rust) for one in ports]
    config = folder / "haproxy.cfg"
    lines = "\n".join(f"  server s{one} 127.0.0.1:{one}" for one in ports)
    config.write_text(HAPROXY.format(port=port, servers=lines))
    plan = {"urls": [peer.url for peer in peers], "commands": [peer.command for peer in peers], "config": str(config)}
    return Peer(
        f"{servers} x {peers[0].name}",
        [sys.executable, "-m", "loadtests.bench.peers.vllm_packed", json.dumps(plan)],
        f"http://127.0.0.1:{port}",
        peers[0].environment,
    )


def main(urls: list[str], commands: list[list[str]], config: str) -> int:
    """Starts the servers, then HAProxy, and stays until it ends."""
    binary = haproxy_binary()
    if binary is None:
        sys.exit("no HAProxy was found")
    started = [subprocess.Popen(commands[0])]
    _wait(urls[0], started[0])
    started += [subprocess.Popen(command) for command in commands[1:]]
    for url, process in zip(urls, started, strict=True):
        _wait(url, process)
    return subprocess.call([binary, "-db", "-f", config])


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/v1/models", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    sys.exit(f"a server ended with {process.returncode} while it was starting")


if __name__ == "__main__":
    sys.exit(main(**json.loads(sys.argv[1])))
