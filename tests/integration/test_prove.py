"""`serve-app prove` from end to end: a configuration under a traffic, its engine killed in the middle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CONFIG = """\
applications:
  - name: lfm2
    route_prefix: /
    import_path: serve_app.app:build
    args:
      models:
        - {id: brief, engine: simulated, cpus: 0.1, replicas: 2, simulated: {step_base_ms: 20}}
      ingress: {cpus: 0.1}
"""


def test_an_engine_is_killed_and_what_was_lost_is_told(tmp_path: Path) -> None:
    config = tmp_path / "brief.yaml"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "loadtests.prove", str(config), "--model", "brief", "--kill-at", "6"]
    command += ["--traffic", "steady:rate=4,duration=15", "--lengths", "fixed:prompt=16,output=25"]
    command += ["--idle", "40", "--slo", "ttft_p99=20s,tpot_p99=2s", "--json", str(tmp_path / "out.json")]
    done = subprocess.run([*command, "--plot", str(tmp_path / "out.png")], capture_output=True, text=True, timeout=200)
    found = json.loads((tmp_path / "out.json").read_text())["runs"]["brief"]
    proof = found["proof"]
    assert proof["killed_at_s"] is not None, done.stderr
    assert proof["requests"] == proof["answered"] + proof["refused"] + proof["failed"] > 20
    assert proof["failed"] == 0 or proof["errors"], "what failed has a kind"
    assert set(proof["pages"]) == {"/health", "/metrics", "/ready"}
    assert min(one["ready"] for one in found["replicas"]) < 2, "the loss was seen"
    assert (tmp_path / "out.png").stat().st_size > 10_000
    assert (done.returncode == 0) == found["passed"]
