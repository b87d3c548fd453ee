"""The tuner from end to end, briefly, on a simulated engine: a configuration that runs and a report come out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from serve_app.cli import main

CONFIG = """\
# Quick to start, slow to answer.
http_options: {host: 127.0.0.1, port: 8000}
applications:
  - name: lfm2
    route_prefix: /
    import_path: serve_app.app:build
    args:
      models:
        - id: brief
          engine: simulated
          cpus: 0.1
          max_running: 8
          simulated: {step_base_ms: 20}  # a second for 50 tokens
        - {id: other, engine: simulated, cpus: 0.1}
      ingress: {cpus: 0.1}
"""


def test_tunes_writes_proves_and_reports(tmp_path: Path) -> None:
    config = tmp_path / "brief.yaml"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "loadtests.tune", str(config), "--model", "brief", "--against", "none"]
    command += ["--slo", "ttft_p90=2s,tpot_p90=200ms", "--lengths", "fixed:prompt=16,output=25", "--max-replicas", "2"]
    command += ["--traffic", "steps:from=2,to=6,steps=2,duration=10", "--max-rate", "4"]
    command += ["--step-seconds", "3", "--repeats", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode in (0, 1), (
        done.stderr
    )  # 10 s on a busy machine prove nothing; that it ends with a verdict does

    tuned = tmp_path / "brief.tuned.yaml"
    assert main(["check", str(tuned)]) == 0
    text = tuned.read_text()
    assert "# a second for 50 tokens" in text and "{id: other" in text
    state = json.loads((tmp_path / "brief.tuned.json").read_text())
    assert state["startup_s"][0] > 0
    assert state["steps"][0]["outcomes"]["ok"] > 0
    assert state["knees"][""]["rate"] > 0
    replay = state["replays"]["tuned"]
    assert replay["outcome"]["failed"] == 0
    assert replay["outcome"]["requests"] == sum(1 for _ in (tmp_path / replay["records"]).open())
    assert {one["target"] for one in replay["samples"]} <= {1, 2}
    assert max(one["at_s"] for one in replay["samples"]) > 9
    assert replay["outcome"]["replica_seconds"] > 9
    page = (tmp_path / "brief.tuned.html").read_text()
    assert f"{state['knees']['']['rate']:.3g} requests/s" in page
    assert (tmp_path / "brief.tuned.png").stat().st_size > 10_000
    assert ("Proven." in done.stdout) == (done.returncode == 0)

    measured = len(state["steps"])
    again = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=100)
    assert again.returncode == done.returncode, again.stderr
    assert len(json.loads((tmp_path / "brief.tuned.json").read_text())["steps"]) == measured
