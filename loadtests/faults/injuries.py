"""What is done to a service: one process killed, one frozen, a node lost, a version deployed.

Each is named by what it hits, in the order in which a run does them; the last is not survived.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from loadtests.bench.peers.peer import ENGINE
from loadtests.faults.victim import Victim, send

SMALL_MIB = 8


class NotPossible(Exception):
    """The fault cannot be had here; says why."""


@dataclass(frozen=True)
class Injury:
    """One fault."""

    name: str
    act: Callable[[Victim], str | None]
    """Returns what there is to say of it."""
    heal: Callable[[Victim], str | None] | None = None
    """Done once the service is whole again, or has had its time."""
    survives: bool = True
    """Whether the service is to be whole again."""
    own_connection: bool = False
    """Whether it takes clients' own connections with it, so that their streams cannot go on."""


def chosen(names: list[str]) -> list[Injury]:
    """Those of these names, all without any; raises NotPossible for a name that is none."""
    if unknown := [name for name in names if name not in ALL]:
        raise NotPossible(f"there is no {', '.join(unknown)}; there are {', '.join(ALL)}")
    return [one for name, one in ALL.items() if not names or name in names]


def _killed(kind: str, start: str) -> Callable[[Victim], None]:
    def act(victim: Victim) -> None:
        found = victim.processes(start)
        if not found:
            raise NotPossible(f"there is no {kind}")
        send(found[-1:], signal.SIGKILL)

    return act


def _replica(sign: signal.Signals) -> Callable[[Victim], None]:
    def act(victim: Victim) -> None:
        remote = victim.second_node()
        send([pid for pid in victim.replica_processes() if pid not in remote][:1], sign)

    return act


def _thaw(victim: Victim) -> None:
    send([*victim.replica_processes(), *victim.second_node()], signal.SIGCONT)


def _node(sign: signal.Signals) -> Callable[[Victim], str]:
    def act(victim: Victim) -> str:
        node = victim.second_node()
        if not node:
            raise NotPossible("there is no second node")
        held = len(set(victim.replica_processes()) & set(node))
        send(node, sign)
        return f"the node had {held} of {victim.replicas} replicas"

    return act


def _changed(victim: Victim, **changes: Any) -> Path:
    """A configuration with other keys for the model."""
    models = [entry | changes if entry["id"] == victim.model else entry for entry in victim.args["models"]]
    return victim.write("changed", victim.args | {"models": models})


def _redeploy(victim: Victim) -> str | None:
    return victim.deploy(_changed(victim, drain_timeout_s=_entry(victim).get("drain_timeout_s", 600) + 1))


def _scale_down(victim: Victim) -> str | None:
    if victim.replicas < 2:
        raise NotPossible("the model has one replica")
    victim.replicas -= 1
    return victim.deploy(_changed(victim, replicas=victim.replicas, autoscaling=None))


def _scale_up(victim: Victim) -> str | None:
    victim.replicas += 1
    return _mend(victim)


def _broken(victim: Victim) -> str:
    simulated = _entry(victim).get("engine") == "simulated"
    version = {"engine": "vllm", "gpus": 0, "simulated": None} if simulated else {}
    failure = victim.deploy(_changed(victim, source="/not/there", **version), check=False)
    return f"told: {failure}"


def _mend(victim: Victim) -> str | None:
    return victim.deploy(victim.write("as-it-was", victim.args))


def _entry(victim: Victim) -> Mapping[str, Any]:
    return next(entry for entry in victim.args["models"] if entry["id"] == victim.model)


@contextmanager
def _small_disk() -> Iterator[Path]:
    """A file system of SMALL_MIB; raises NotPossible where none can be mounted."""
    with tempfile.TemporaryDirectory(prefix="chaos-disk-") as folder:
        command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_MIB}m", "tmpfs", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotPossible(f"no small disk can be mounted here: {done.stderr.strip()}")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], capture_output=True, check=False)


def _fill(victim: Victim) -> str:
    """The Batch API's disk is filled while files are uploaded, and emptied again."""
    with _small_disk() as folder:
        batch = {"directory": str(folder / "batch"), "cpus": 0.1, "min_free_mib": 1}
        failure = victim.deploy(victim.write("with-batch", victim.args | {"batch": batch}))
        if failure:
            return failure
        (folder / "ballast").write_bytes(bytes(2**20))
        statuses = [_upload(victim.url, 2**20) for _ in range(SMALL_MIB)]
        (folder / "ballast").unlink()
        failure = _mend(victim)
    kinds = ", ".join(f"{statuses.count(status)} of {status}" for status in sorted(set(statuses)))
    return failure or f"uploads until it was full: {kinds}"


def _upload(url: str, size: int) -> int:
    line = (
        b'{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "' + b"a" * 900 + b'"}}\n'
    )
    files = {"file": ("in.jsonl", line * (size // len(line)))}
    try:
        return httpx.post(f"{url}/v1/files", data={"purpose": "batch"}, files=files, timeout=30).status_code
    except httpx.HTTPError:
        return 0


def _rejoin(victim: Victim) -> None:
    victim.join_second_node(victim.second_cpus)
    victim.spread()


ALL = {
    one.name: one
    for one in (
        Injury("replica", _replica(signal.SIGKILL)),
        Injury("engine", _killed("engine process", ENGINE)),
        Injury("controller", _killed("controller", "ray::ServeController")),
        Injury("frozen-replica", _replica(signal.SIGSTOP), _thaw),
        Injury("redeploy", _redeploy, _mend),
        # While the ingress is where it started, on the first node: what follows starts it anew, anywhere.
        Injury("node", _node(signal.SIGKILL), _rejoin),
        Injury("frozen-node", _node(signal.SIGSTOP), _thaw),
        Injury("scale-down", _scale_down, _scale_up),
        Injury("broken-version", _broken, _mend),
        Injury("full-disk", _fill),
        Injury("haproxy", _killed("HAProxy", "haproxy"), own_connection=True),
        Injury("ingress", _killed("ingress", "ray::ServeReplica:lfm2:ingress"), own_connection=True),
        Injury("gcs", _killed("GCS", "gcs_server"), survives=False),
    )
}
"""By name."""
