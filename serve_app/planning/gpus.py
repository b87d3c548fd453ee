"""The GPUs of this machine, as `nvidia-smi` tells of them, and which of them CUDA_VISIBLE_DEVICES leaves.

A number in that variable means different GPUs to different readers: a process under NVIDIA's Multi-Process Service
counts those that its daemon sees, everybody else those of the machine. A UUID means the same to all of them
(docs.nvidia.com/deploy/mps, "CUDA_VISIBLE_DEVICES"), as long as it is written out: CUDA takes its first few characters
as well, NVML, which vLLM asks, does not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
TIMEOUT_S = 15.0
"""`nvidia-smi` wakes a driver that sleeps; one that takes longer than this hangs."""
DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""What a driver for NVIDIA's GPUs puts on Linux, and on Linux below Windows."""
PIPES = Path("/tmp/nvidia-mps")
"""Where a Multi-Process Service listens unless CUDA_MPS_PIPE_DIRECTORY names another folder."""
MIG = "MIG-"
FIELDS = "index,uuid,memory.total,memory.used"


class GpusUnknown(Exception):
    """Nobody tells of this machine's GPUs; says why, and what to do."""


class NobodyToAsk(GpusUnknown):
    """There is a driver, and no nvidia-smi."""


@dataclass(frozen=True)
class Gpu:
    """One GPU; memory in GiB."""

    index: int
    uuid: str
    total_gib: float
    used_gib: float

    @property
    def free_gib(self) -> float:
        return self.total_gib - self.used_gib


def installed() -> tuple[Gpu, ...]:
    """Every GPU here, those that CUDA_VISIBLE_DEVICES hides included; none without a driver. Raises GpusUnknown."""
    if shutil.which("nvidia-smi") is None:
        if any(one.exists() for one in DRIVERS):
            raise NobodyToAsk("there is a driver for NVIDIA's GPUs, and no nvidia-smi on the PATH: add its folder")
        return ()
    command = ["nvidia-smi", f"--query-gpu={FIELDS}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise GpusUnknown(
            f"nvidia-smi has not answered for {TIMEOUT_S:g} s: the driver hangs, and engines would too; see `dmesg` for"
            " Xid errors, reset the GPU or restart the machine"
        ) from None
    except OSError as error:
        raise GpusUnknown(f"nvidia-smi does not run: {error.strerror}") from None
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines() or ["it says nothing"]
        if said[0].startswith("No devices were found"):
            return ()
        raise GpusUnknown(f"nvidia-smi ended with {done.returncode}: {said[0]}")
    return parse(done.stdout)


def parse(table: str) -> tuple[Gpu, ...]:
    """What nvidia-smi says of `FIELDS`, a GPU a line. Raises GpusUnknown where that is no such table."""
    found = []
    for line in filter(None, map(str.strip, table.splitlines())):
        try:
            index, uuid, total, used = (word.strip() for word in line.split(","))
            found.append(Gpu(int(index), uuid, _gib(total), _gib(used)))
        except ValueError:
            raise GpusUnknown(f"nvidia-smi says {line!r}, and not {FIELDS}") from None
    return tuple(found)


def chosen(restriction: str, gpus: Sequence[Gpu]) -> list[str]:
    """Full UUIDs of what CUDA_VISIBLE_DEVICES names, in its order: numbers as nvidia-smi's, UUIDs and their beginnings.

    A part of a GPU (MIG) stays as it is written. As for CUDA, the list ends at an entry that means nothing by
    convention (-1, none). Raises ValueError for one that looks like a GPU and is not there, or names two.
    """
    found: list[str] = []
    for entry in (part.strip() for part in restriction.split(",")):
        if not entry or entry.lower() in ("-1", "none", "void", "nodevfiles"):
            break
        uuid = entry if entry.startswith(MIG) else _one(entry, gpus)
        if uuid in found:
            raise ValueError(f"{VISIBLE}={restriction} names a GPU twice, and CUDA then sees none")
        found.append(uuid)
    return found


def unambiguous(restriction: str, gpus: Sequence[Gpu], under_mps: bool) -> str:
    """The same devices so that every reader takes them for the same: by full UUIDs under MPS, and where the beginning
    of one is given. Plain numbers without MPS stay. Raises ValueError as `chosen` does."""
    if not under_mps and is_plain(restriction):
        return restriction
    return ",".join(chosen(restriction, gpus))


def is_plain(restriction: str) -> bool:
    """Whether it is a list of numbers."""
    return all(part.strip().lstrip("-").isdigit() for part in restriction.split(","))


def seen(gpus: Iterable[Gpu], restriction: str | None) -> list[Gpu]:
    """The whole GPUs that CUDA_VISIBLE_DEVICES leaves; all of them where it is not set. Raises ValueError."""
    by_uuid = {one.uuid: one for one in gpus}
    if restriction is None:
        return list(by_uuid.values())
    return [by_uuid[uuid] for uuid in chosen(restriction, list(by_uuid.values())) if uuid in by_uuid]


def under_mps() -> bool:
    """Whether a process started now, with this environment, would be a client of a Multi-Process Service."""
    return (Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or PIPES) / "control").exists()


def _one(entry: str, gpus: Sequence[Gpu]) -> str:
    there = ", ".join(f"{one.index} ({one.uuid})" for one in gpus) or "none"
    if entry.isdigit():
        found = [one.uuid for one in gpus if one.index == int(entry)]
    else:
        found = [one.uuid for one in gpus if entry.startswith("GPU-") and one.uuid.startswith(entry)]
    if len(found) != 1:
        raise ValueError(
            f"{VISIBLE} names {entry!r}, which is {'several' if found else 'none'} of this machine's: {there}"
        )
    return found[0]


def _gib(mib: str) -> float:
    """0 where the driver does not say, as of GPUs whose memory is the machine's."""
    return float(mib) / 1024 if mib.replace(".", "").isdigit() else 0.0
