"""The service that faults are done to: its processes by what they are, and a second node of its cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from loadtests.bench.peers import serve_file
from loadtests.bench.peers.ours import up
from loadtests.bench.peers.peer import DidNotServe, RunningPeer
from loadtests.bench.peers.setup import PeerSetup
from serve_app.compat import second_node
from serve_app.config.names import INGRESS, deployment
from serve_app.launching import launches
from serve_app.launching.deploy import GCS_PORT
from serve_app.launching.environment import environment
from serve_app.launching.events import startup_s
from serve_app.launching.local_service import Readiness, readiness
from serve_app.launching.processes import Family, title

APPLICATION = "lfm2"
HAPROXY = "haproxy"
NODE_S = 30.0
"""For a node to join."""
READY_TIMEOUT_S = 2.0
LOOK_S = 0.2
UNCHECKED_DEPLOY = (
    "import sys; from pathlib import Path; from serve_app.launching import deploy, launches\n"
    "print(deploy.deploy(launches.on_port(int(sys.argv[1])), Path(sys.argv[2])) or '')"
)
"""A program that deploys a configuration as it is, as `serve deploy` does, to the service on a port; its last line is
why that does not run."""
ENVIRONMENT = {
    # Replicas on all nodes; `up` fills one node before another.
    "RAY_SERVE_USE_PACK_SCHEDULING_STRATEGY": "0",
    # A node that does not answer counts as lost after 10 s; `up`, on a machine of its own, is far more patient.
    "RAY_health_check_initial_delay_ms": "5000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
}


class Victim:
    """A service of one model that is running, between `with` and its end."""

    def __init__(
        self, args: Mapping[str, Any], model: str, replicas: int, port: int, folder: Path, second_cpus: int = 0
    ) -> None:
        """`args` are the application's; `replicas` are those that the model should have, `second_cpus` the cores of a
        second node, 0 for none."""
        self.model = model
        self.replicas = replicas
        self.ingresses = int((args.get("ingress") or {}).get("replicas", 1))
        self.args = dict(args)
        self.second_cpus = second_cpus
        self.start_s = 0.0
        """How long a replica takes to start."""
        self.port = port
        self.folder = folder
        self.peer = up("victim", self.write("victim", self.args), port, replicas)
        self.url = self.peer.url
        setup = PeerSetup(model=model, source="", gpu=False, environment=ENVIRONMENT)
        self._running = RunningPeer(self.peer, setup, folder)
        self._second: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Victim:
        self._running.__enter__()
        found = launches.on_port(self.port)
        assert found is not None
        self.launch = found
        self._family = Family(found.id)
        self.start_s = startup_s(self._running.events(), self.model, self.replicas)
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._second is not None:
            self._second.terminate()
        self._running.__exit__(*exception)

    def write(self, name: str, args: Mapping[str, Any]) -> Path:
        """A configuration file of these `args`."""
        return serve_file.write(self.folder / f"{name}.yaml", args, port=self.port, proxy_location="HeadOnly")

    def readiness(self) -> Readiness | None:
        """What /ready says; None while nobody answers."""
        return readiness(self.url, READY_TIMEOUT_S)

    def is_whole(self) -> bool:
        """Whether all is there that should be, by what an ingress says and by the processes that can run."""
        state = self.readiness()
        if state is None or state.models.get(self.model, {}).get("ready", 0) != self.replicas:
            return False
        return (
            len(list(self._able(self.replica_processes()))) >= self.replicas
            and len(list(self._able(self.ingress_processes()))) >= self.ingresses
            and bool(self.processes(HAPROXY))
            and bool(self.processes("ray::ServeController"))
        )

    def replica_processes(self) -> list[int]:
        return self.processes(f"ray::ServeReplica:{APPLICATION}:{deployment(self.model)}")

    def ingress_processes(self) -> list[int]:
        return self.processes(f"ray::ServeReplica:{APPLICATION}:{INGRESS}")

    def processes(self, start: str) -> list[int]:
        """Ids of the service's processes with a title that begins so, or of which the program is called so."""
        found = {pid: title(pid) for pid in self._family.members()}
        return [
            pid for pid, words in found.items() if words.startswith(start) or words.partition(" ")[0].endswith(start)
        ]

    def counts(self) -> dict[str, int]:
        """How many processes there are of each kind."""
        kinds: dict[str, int] = {}
        for pid in self._family.members():
            words = title(pid)
            kind = ":".join(words.split(".")[0].split()[0].split(":")[:5]) if words.startswith("ray::") else ""
            kind = kind or Path(words.partition(" ")[0]).name
            if kind and not kind.startswith(("ray::IDLE", "python")):
                kinds[kind] = kinds.get(kind, 0) + 1
        return kinds

    def deploy(self, config: Path, check: bool = True) -> str | None:
        """Give it another configuration and see that through; why it does not run, None where it does. Without `check`
        also one that this project would refuse."""
        by_hand = [sys.executable, "-c", UNCHECKED_DEPLOY, str(self.port), str(config)]
        command = [sys.executable, "-m", "serve_app", "deploy", str(config), "--port", str(self.port)]
        done = subprocess.run(
            command if check else by_hand, capture_output=True, text=True, timeout=300, check=False, env=self._outside()
        )
        if check or done.returncode:
            return done.stderr.strip()[-500:] if done.returncode else None
        # Ray's own notices come before.
        return (done.stdout.strip("\n").splitlines() or [""])[-1] or None

    def join_second_node(self, cpus: int) -> None:
        """Start a second node of so many CPU cores. Raises DidNotServe where it does not come up."""
        (written,) = Path(self.launch.folder).glob(GCS_PORT)
        command = [sys.executable, "-m", second_node.__name__, f"127.0.0.1:{written.read_text()}", str(cpus)]
        variables = environment(self.launch.id, Path(self.launch.folder)) | ENVIRONMENT
        path = self.folder / f"second-node-{time.time():.0f}.log"
        with path.open("wb") as log:
            self._second = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=variables)
        deadline = time.monotonic() + NODE_S
        while second_node.JOINED not in path.read_text(errors="replace"):
            if time.monotonic() > deadline or self._second.poll() is not None:
                raise DidNotServe(f"a second node did not start: {path.read_text(errors='replace')[-2000:]}")
            time.sleep(LOOK_S)

    def second_node(self) -> list[int]:
        """The second node's own process and those it has started, frozen ones too; empty where there is none."""
        if self._second is None:
            return []
        with contextlib.suppress(psutil.Error):
            raylets = [one for one in psutil.Process(self._second.pid).children() if one.name() == "raylet"]
            return [pid for one in raylets for pid in (one.pid, *(child.pid for child in one.children(recursive=True)))]
        return []

    def spread(self) -> None:
        """Start all replicas anew, over all nodes. Raises DidNotServe where the second node gets none."""
        # Of an engine alone: the ingress stays where it is.
        self.args["models"] = [one | {"drain_timeout_s": one["drain_timeout_s"] + 1} for one in self.args["models"]]
        failure = self.deploy(self.write("spread", self.args))
        if failure or not set(self.second_node()) & set(self.replica_processes()):
            raise DidNotServe(f"the second node has no replica: {failure or 'all are on the first'}")

    def _able(self, pids: Iterable[int]) -> Iterator[int]:
        """Those that are not stopped."""
        for pid in pids:
            with contextlib.suppress(psutil.Error):
                if psutil.Process(pid).status() != psutil.STATUS_STOPPED:
                    yield pid

    def _outside(self) -> dict[str, str]:
        """The environment of a process that is no part of it."""
        return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


def send(pids: Iterable[int], sign: signal.Signals) -> None:
    """A signal to each process that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)
