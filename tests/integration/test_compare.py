"""The comparison command, on the suite that needs no model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_compares_the_whole_path_with_the_engine_alone(tmp_path: Path) -> None:
    written = tmp_path / "path.json"
    command = [sys.executable, "-m", "loadtests.compare", "path", "--rounds", "1", "--loads", "chat-1"]
    done = subprocess.run([*command, "--json", str(written)], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    samples = json.loads(written.read_text())["samples"]
    assert [one["contender"] for one in samples] == ["engine alone", "this project, 1 replica"]
    assert all(one["errors"] == 0 and one["tokens_per_s"] > 0 for one in samples)
    assert all(one["server_cpu_s_per_1k"] > 0 for one in samples)
