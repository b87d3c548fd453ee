"""Tests that need a cluster of their own run it in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parents[1] / "scripts"


def run_script(name: str, timeout_s: float) -> dict[str, Any]:
    """Run a script of `tests/scripts` without HAProxy; the JSON object it prints."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(SCRIPTS.parents[1]),
        "RAY_SERVE_ENABLE_HA_PROXY": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    run = subprocess.run(
        [sys.executable, str(SCRIPTS / name)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=environment,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-6000:]
    return dict(json.loads(next(line for line in run.stdout.splitlines() if line.startswith("{"))))
