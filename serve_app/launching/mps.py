"""NVIDIA's Multi-Process Service: engines packed on a GPU use it at the same moment instead of taking turns.

Without it the driver switches between their processes, each with the whole GPU for a slice of time. What it costs is
isolation: a fault on the GPU in one engine, or one killed at work, may take its neighbours along
(docs.nvidia.com/deploy/mps, "Client Early Termination").
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from serve_app.launching.settings import CannotStart

CONTROL = "nvidia-cuda-mps-control"
START_TIMEOUT_S = 20.0
QUIT_TIMEOUT_S = 20.0


class Mps:
    """One control daemon, for the processes that carry its variables."""

    def __init__(self, folder: Path) -> None:
        self._pipes = folder / "mps"
        self._log = folder / "mps.log"
        self.variables = {"CUDA_MPS_PIPE_DIRECTORY": str(self._pipes), "CUDA_MPS_LOG_DIRECTORY": str(self._pipes)}

    def start(self, environment: Mapping[str, str]) -> None:
        """Raises CannotStart where there is no such service."""
        if shutil.which(CONTROL) is None:
            raise CannotStart(f"--mps needs {CONTROL}, which comes with NVIDIA's driver; it is not on the PATH")
        self._pipes.mkdir()
        if code := self._control(["-d"], environment, START_TIMEOUT_S):
            raise CannotStart(f"{CONTROL} -d ended with {code}: {self._log.read_text().strip()}")

    def stop(self, environment: Mapping[str, str]) -> None:
        """Ends it once its clients are gone; what hangs is left to the launcher's sweep."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._control([], environment, QUIT_TIMEOUT_S, b"quit\n")

    def _control(self, words: list[str], environment: Mapping[str, str], timeout_s: float, said: bytes = b"") -> int:
        # Into a file: the daemon keeps what it is given open.
        with self._log.open("ab") as log:
            variables = {**environment, **self.variables}
            done = subprocess.run(
                [CONTROL, *words], env=variables, input=said, stdout=log, stderr=log, timeout=timeout_s, check=False
            )
        return done.returncode
