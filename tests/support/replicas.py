"""Replicas as Ray Serve would announce them, for tests that start none."""

from __future__ import annotations

from typing import Any

from serve_app.replica.protocol import ReplicaInfo, ReplicaLoad
from serve_app.routing.replica import Published

INFO: dict[str, Any] = {
    "model": "m",
    "url": "http://127.0.0.1:1",
    "token": "t",
    "capacity": 8,
    "max_running": 8,
    "max_model_len": 4096,
    "created": 0,
}
"""Nothing listens at this address."""


def replica_info(**changes: Any) -> ReplicaInfo:
    """What a replica of the model `m` says of itself, apart from the fields in `changes`."""
    return ReplicaInfo(**INFO | changes)


def published(id: str = "r", load: ReplicaLoad | None = None, **changes: Any) -> Published:
    """An announced replica; idle without `load`, and described by `replica_info(**changes)`."""
    return Published(id=id, info=replica_info(**changes), load=load or ReplicaLoad())
