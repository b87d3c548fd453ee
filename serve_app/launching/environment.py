"""The environment a local service starts in.

Ray reads these variables when a cluster starts. Ports and paths that Serve fixes for the whole machine are moved, so
that two services can run side by side, and nothing listens beyond this machine unless the configuration's
`http_options.host` says so. What the user has set wins.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from serve_app.config.schema import ServiceConfig
from serve_app.launching.haproxy import haproxy_binary, wrapper
from serve_app.launching.haproxy_config import MAX_CONNECTIONS
from serve_app.launching.processes import LAUNCH_ID

LONGEST_STREAM_S = 3600
"""HAProxy cuts what is still open this long after a reload, or later where a model's drain may take longer."""
DRAIN_MARGIN_S = 60.0
THOUSANDS = range(20_000, 32_000, 1_000)
"""Ports below those Linux gives to outgoing connections, among which Ray's processes take theirs as they start."""
INGRESS_PORTS, SERVE_PORTS, OTHER_PORTS = range(500), range(500, 750), range(750, 1_000)
"""Of each thousand, what is for ingress replicas, for the rest of Ray Serve, for `free_ports`."""
WANTED = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    # Ray's workers are at nice 15: everything else on the machine, clients included, would go before the engines.
    "RAY_worker_niceness": "0",
    # Fill a GPU, and a node, before taking another. By default Serve spreads replicas over the nodes.
    "RAY_SERVE_USE_PACK_SCHEDULING_STRATEGY": "1",
}
"""What any service wants of Ray, on any node."""
PATIENCE = {
    # HAProxy's manager has this long to start HAProxy, and Serve's controller waits this long for it.
    "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": "120",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "30",
    # Ray's own processes, while they start, and its node, when it does not answer.
    "RAY_gcs_server_port_wait_time_s": "120",
    "RAY_agent_register_timeout_ms": "120000",
    "RAY_worker_register_timeout_seconds": "180",
    "RAY_health_check_initial_delay_ms": "30000",
    "RAY_health_check_timeout_ms": "30000",
    "RAY_health_check_failure_threshold": "10",
}
"""A busy machine starts slowly; with Ray's own values it then kills what was about to be ready."""


def environment(launch_id: str, folder: Path, services: Sequence[ServiceConfig] = ()) -> dict[str, str]:
    """The present environment with what these services need on this machine; `folder` takes HAProxy's files."""
    here = os.environ
    folders = [str(Path(sys.executable).parent), here.get("PATH", "")]
    modules = [os.getcwd(), here.get("PYTHONPATH", "")]
    fallback, metrics, stats = free_ports(3, SERVE_PORTS)
    return {
        **_ray(fallback),
        **_haproxy(folder, metrics, stats),
        **asked(services),
        **PATIENCE,
        # Its sockets and logs, which its own default leaves in /tmp/ray for everybody to read.
        "RAY_TMPDIR": str(folder),
        # Sockets between a replica and its engine, which stay where an engine is killed.
        "VLLM_RPC_BASE_PATH": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        **here,
        LAUNCH_ID: launch_id,
        "PATH": os.pathsep.join(filter(None, folders)),
        "PYTHONPATH": os.pathsep.join(filter(None, modules)),
        "PYTHONUNBUFFERED": "1",
        "SPT_NOENV": "1",
    }


def asked(services: Sequence[ServiceConfig]) -> dict[str, str]:
    """What services ask of the Serve they run on that no deployment can say."""
    connections = max((one.ingress.max_connections for one in services), default=MAX_CONNECTIONS)
    longest_s = max((one.longest_drain_s for one in services), default=0.0)
    return {
        "RAY_SERVE_HAPROXY_MAXCONN": str(connections),
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(max(LONGEST_STREAM_S, int(longest_s + DRAIN_MARGIN_S))),
        "RAY_preload_python_modules": "serve_app.compat.preload",
    }


def offline() -> None:
    """Set, in this process, what a Ray cluster needs that serves this process alone. Before Ray is imported."""
    wanted = {
        **_ray(*free_ports(1, SERVE_PORTS)),
        "RAY_SERVE_ENABLE_HA_PROXY": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "VLLM_NO_USAGE_STATS": "1",
    }
    for name, value in wanted.items():
        os.environ.setdefault(name, value)


def joining() -> dict[str, str]:
    """What a process needs in its environment that joins the Ray of a local service. Before Ray is imported."""
    return {
        # Ray's switch for machines without clusters: the node's address is 127.0.0.1, and all of Ray binds to it.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # The one port Ray Serve opens on every interface (replicas' own gRPC) asks for the cluster's token.
        "RAY_AUTH_MODE": "token",
    }


def _ray(fallback: int) -> dict[str, str]:
    ingress = random.choice(THOUSANDS)
    return {
        **joining(),
        **WANTED,
        "RAY_DEDUP_LOGS": "0",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ingress + INGRESS_PORTS[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ingress + INGRESS_PORTS[-1]),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    }


def _haproxy(folder: Path, metrics: int, stats: int) -> dict[str, str]:
    settings: dict[str, object] = {
        "CONFIG_FILE_LOC": folder / "haproxy.cfg",
        "SOCKET_PATH": folder / "admin.sock",
        "SERVER_STATE_BASE": folder,
        "SERVER_STATE_FILE": folder / "server-state",
        "METRICS_SOCKET_PATH": folder / "metrics.sock",
        "METRICS_PORT": metrics,
        "STATS_PORT": stats,
    }
    if haproxy_binary():
        settings["BINARY_PATH"] = wrapper(folder)
    return {f"RAY_SERVE_HAPROXY_{name}": str(value) for name, value in settings.items()}


def free_ports(count: int, among: range = OTHER_PORTS) -> list[int]:
    """Ports nobody listens on, and that nobody is given unasked before they are used."""
    ports = [thousand + port for thousand in THOUSANDS for port in among]
    random.shuffle(ports)
    return list(itertools.islice(filter(_free, ports), count))


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
