"""What Ray Serve's status of an application comes to, in one word and one sentence.

The states are public; why a replica failed to start or finds no place stands in messages alone, which are texts of
Ray 2.60's source, with tracebacks in them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from serve_app.compat.serve_log import REPLICA_WAITS

MOST_CHARACTERS = 600
WAITS = "finds no place for a replica: free what one needs, or set max_surge_percent: 0 to stop old replicas first"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_EXCEPTION = re.compile(r"^\s*(?:\w+\.)*\w*(?:Error|Exception): ", re.MULTILINE)


@dataclass(frozen=True)
class RolloutState:
    """How far the last deploy of an application is."""

    state: str
    """`running` where what was deployed runs, `changing`, `waiting` where replicas find no place, or `failed`."""
    reason: str = ""
    """Why it waits or failed, in one sentence."""
    settled: frozenset[str] = frozenset()
    """Names of the deployments that have all the replicas they should, of the version they should."""


RUNNING = RolloutState("running")


def deploy(config: dict[str, Any]) -> None:
    """Give Serve on the cluster that this process has joined another configuration, as `serve deploy` does by way of
    the cluster's dashboard. Raises what Ray raises."""
    _get_global_client().deploy_apps(ServeDeploySchema.model_validate(config))


def look(app: str) -> RolloutState:
    """Blocks for an answer of Serve's controller; raises what Ray raises where there is none."""
    known = serve.status().applications.get(app)
    return RUNNING if known is None else read(known)


def read(app: Any) -> RolloutState:
    """From Ray Serve's status of an application."""
    status, deployments = app.status.value, app.deployments.items()
    settled = frozenset(name for name, one in deployments if one.status.value == "HEALTHY")
    if status == "DEPLOY_FAILED":
        failed = [one.message for _, one in deployments if one.status.value == "DEPLOY_FAILED"]
        return RolloutState("failed", "; ".join(map(sentence, failed or [app.message])), settled)
    if status == "DEPLOYING":
        waiting = [name for name, one in deployments if REPLICA_WAITS.search(one.message) and "schedul" in one.message]
        if waiting:
            return RolloutState("waiting", f"{', '.join(waiting)} {WAITS}", settled)
        return RolloutState("changing", settled=settled)
    return RolloutState("running", settled=settled)


def sentence(message: str) -> str:
    """What a message of Ray Serve's comes to: the text of the last exception in it, or its last line."""
    plain = _COLOUR.sub("", message).strip()
    found = list(_EXCEPTION.finditer(plain))
    told = plain[found[-1].end() :] if found else (plain.splitlines() or [""])[-1]
    return " ".join(told.split())[:MOST_CHARACTERS]


def address() -> str:
    """Where this machine reaches Serve's HTTP, without a trailing slash. Blocks briefly; raises what Ray raises."""
    options = _get_global_client().http_config
    host = "127.0.0.1" if options.host in (None, "0.0.0.0", "::") else options.host
    return f"http://[{host}]:{options.port}" if ":" in host else f"http://{host}:{options.port}"
