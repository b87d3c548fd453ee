"""vLLM's engine process is stopped while it has a request: the replica notices, and does not while it has none."""

from __future__ import annotations

import json
import subprocess
import sys


def test_an_engine_that_takes_no_step_is_found() -> None:
    command = [sys.executable, "-m", "tests.scripts.stalled_engine"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"told"')]
    assert len(told) == 1, done.stdout[-2000:] + done.stderr[-4000:]
    before, meanwhile, after = told[0]["told"]
    assert before is None and meanwhile is None and not told[0]["answered"]
    assert "no step" in after
