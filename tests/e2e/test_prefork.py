"""An engine process that is forked: it answers, and it ends with its replica."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import psutil


def test_a_forked_engine_answers_and_ends_with_its_replica() -> None:
    command = [sys.executable, "-m", "tests.scripts.forked_engine"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=300)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith('{"tokens"'))
    told = json.loads(line)
    assert told["tokens"] == 4 and told["kind"] == "EngineProcess"
    deadline = time.monotonic() + 30
    while psutil.pid_exists(told["engine"]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not psutil.pid_exists(told["engine"]), "it would keep the GPU"
