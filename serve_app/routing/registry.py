"""The pools of this process, and the way from Ray Serve's thread to their event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from ray.serve.handle import DeploymentHandle

from serve_app.replica.protocol import ReplicaInfo, ReplicaLoad
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.replica import Published

Announcement = list[tuple[str, dict[str, Any], dict[str, Any]]]
"""A replica each: Serve's id, its metadata, its last load report (empty before the first)."""

_pools: dict[str, tuple[ReplicaPool, asyncio.AbstractEventLoop]] = {}
_early: dict[str, Announcement] = {}


def listen(handle: DeploymentHandle, pool: ReplicaPool) -> DeploymentHandle:
    """Let Serve tell the pool of a deployment's replicas, as long as the handle returned is kept."""
    register(pool)
    # `options` starts the handle's router, whose long poll tells this process of the replicas.
    return handle.options(method_name="check_health")


def register(pool: ReplicaPool) -> None:
    """Let announcements of the pool's model reach it on the running event loop."""
    _pools[pool.model] = (pool, asyncio.get_running_loop())
    if pool.model in _early:
        pool.update(_read(_early.pop(pool.model)))


def unregister(model: str) -> None:
    """Before the pool's event loop ends."""
    _pools.pop(model, None)


def publish(model: str, announcement: Announcement) -> None:
    """Take over an announcement, from any thread."""
    if model not in _pools:
        _early[model] = announcement
        return
    pool, loop = _pools[model]
    loop.call_soon_threadsafe(pool.update, _read(announcement))


def _read(announcement: Announcement) -> list[Published]:
    return [
        Published(id, ReplicaInfo.from_dict(metadata), ReplicaLoad.from_dict(load or {}))
        for id, metadata, load in announcement
        if metadata
    ]
