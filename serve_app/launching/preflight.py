"""What stands in the way of a service on this machine, told before anything starts: a sentence each, with what to do.

What is certain to fail raises CannotStart; what may do is returned as notices.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serve_app.config.schema import ModelConfig, ServiceConfig
from serve_app.launching.haproxy import haproxy_binary
from serve_app.launching.settings import CannotStart
from serve_app.planning import compile_cache, gpus, open_files
from serve_app.planning.gpus import Gpu, GpusUnknown
from serve_app.planning.packing import USABLE_SHARE
from serve_app.planning.plan import gpus_needed
from serve_app.planning.resolve import gpu_share, replica_bounds, resolve

SHARED_MEMORY = Path("/dev/shm")
LEAST_SHARED_GIB = 1.0
"""Ray keeps its objects there, vLLM what its processes pass each other; Docker gives 64 MiB unless told otherwise."""
LEAST_DISK_GIB = 2.0
"""For logs and sockets of a launch; Ray stores nothing more once a disk is 95 % full."""
MEMORY_RETURNS_S = 10.0
"""The driver takes the memory of a process that has ended back within this long."""
GIB = 2**30


@dataclass(frozen=True)
class Preflight:
    """What was found."""

    variables: Mapping[str, str] = field(default_factory=dict)
    """To set for the service and its MPS daemon."""
    notices: tuple[str, ...] = ()
    """What will do, and may hurt."""


def folder_for_launches(root: Path) -> None:
    """Raises CannotStart where a launch could not keep its files."""
    if not _writable(root):
        raise CannotStart(
            f"nothing can be written to {root}, where a service keeps its sockets and logs: make it writable"
        )
    if (free := shutil.disk_usage(root).free) < LEAST_DISK_GIB * GIB:
        raise CannotStart(
            f"{root} has {free / GIB:.1f} GiB left, and a service's logs need {LEAST_DISK_GIB:g}: make room there"
        )


def look(services: Sequence[ServiceConfig], mps: bool, environment: Mapping[str, str] = os.environ) -> Preflight:
    """Raises CannotStart for what would keep these services from starting here."""
    if environment.get("RAY_SERVE_ENABLE_HA_PROXY", "1") != "0" and haproxy_binary() is None:
        raise CannotStart(
            "there is no HAProxy: install ray[serve] on Linux, which brings one, or put `haproxy` on the PATH"
        )
    models = [model for one in services for model in resolve(one).config.models]
    variables, notices = _gpus([model for model in models if gpu_share(model) > 0], mps, environment)
    return Preflight(variables, (*_notices(services), *_caches(services), *notices))


def _notices(services: Sequence[ServiceConfig]) -> list[str]:
    found = []
    wanted = max((one.ingress.max_connections for one in services), default=0)
    if open_files.most_connections(wanted) < wanted:
        found.append(f"connections of clients: {open_files.room(wanted)}")
    if SHARED_MEMORY.is_dir() and (size := shutil.disk_usage(SHARED_MEMORY).free / GIB) < LEAST_SHARED_GIB:
        found.append(
            f"{SHARED_MEMORY} has {size:.2f} GiB left: replicas over several GPUs need more, and Ray falls back on the"
            " disk; in a container, give it --shm-size=8g"
        )
    return found


def _caches(services: Sequence[ServiceConfig]) -> Iterator[str]:
    """Folders of what engines compile that cannot be written to; an image may hold one that is full already."""
    wanted = {
        compile_cache.folder(one.cache_directory)
        for one in services
        if any(model.engine == "vllm" and gpu_share(model) for model in resolve(one).config.models)
    }
    for folder in sorted(wanted):
        there = folder
        while not there.exists() and there != there.parent:
            there = there.parent
        if not _writable(there):
            yield (
                f"nothing can be written to {folder}: unless `serve-app warm` has filled it, each replica compiles;"
                f" make {there} writable, or name another folder with cache_directory"
            )


def _writable(folder: Path) -> bool:
    """Tried, as permissions say nothing of a file system that is mounted to be read."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _gpus(models: Sequence[ModelConfig], mps: bool, environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Variables that name the GPUs so that Ray, the MPS daemon and its clients all take them for the same; notices."""
    if not models and not mps:
        return {}, []
    restriction = environment.get(gpus.VISIBLE)
    wanted = [gpu_share(model) for model in models for _ in range(replica_bounds(model)[0])]
    try:
        there = gpus.installed()
        if restriction is None or gpus.MIG not in restriction:
            _enough(there, restriction, gpus_needed(wanted), min(wanted, default=0.0))
        return ({} if restriction is None else {gpus.VISIBLE: gpus.unambiguous(restriction, there, mps)}), []
    except gpus.NobodyToAsk as unknown:
        if mps and restriction is not None:
            raise CannotStart(f"under --mps, {gpus.VISIBLE} must become UUIDs, and {unknown}") from None
        return {}, [str(unknown)]
    except (GpusUnknown, ValueError) as error:
        raise CannotStart(str(error)) from None


def _enough(there: Sequence[Gpu], restriction: str | None, needed: int, share: float) -> None:
    """Raises CannotStart where there are too few GPUs, or others hold the memory of too many."""
    seen = gpus.seen(there, restriction)
    if len(seen) < needed:
        left = f" ({gpus.VISIBLE}={restriction} leaves {len(seen)} of {len(there)})" if restriction is not None else ""
        raise CannotStart(
            f"the replicas to start need {needed} GPU{'s' if needed > 1 else ''}, and there {_are(len(seen))}"
            f" here{left}: lower `replicas` or `gpus`, pack more on each with `replicas_per_gpu`, or set `gpus: 0` to"
            " run on the CPU"
        )
    deadline = time.monotonic() + MEMORY_RETURNS_S
    while full := [one for one in seen if one.free_gib < min(share, 1.0) * USABLE_SHARE * one.total_gib]:
        if len(seen) - len(full) >= needed:
            return
        if time.monotonic() > deadline:
            raise CannotStart(_full(full, min(share, 1.0)))
        time.sleep(1.0)
        seen = gpus.seen(gpus.installed(), restriction)


def _full(full: Sequence[Gpu], share: float) -> str:
    held = "; ".join(f"{one.used_gib:.1f} of {one.total_gib:.1f} GiB of GPU {one.index}" for one in full)
    each = share * USABLE_SHARE * full[0].total_gib
    return (
        f"other processes hold {held}, and a replica takes {each:.1f}: end them (nvidia-smi lists them), or choose"
        f" other GPUs with {gpus.VISIBLE}"
    )


def _are(count: int) -> str:
    return "is none" if not count else "is 1" if count == 1 else f"are {count}"
