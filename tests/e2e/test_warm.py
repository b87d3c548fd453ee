"""`serve-app warm` on this machine's CPU: every engine starts, answers and is gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_each_model_is_started_once_and_answers() -> None:
    command = [sys.executable, "-m", "serve_app", "warm", "configs/demo.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    for model in ("lfm2-demo", "lfm2-vl-demo"):
        assert f"{model}: started in" in done.stdout


def test_a_model_that_cannot_start_is_told_and_the_command_fails(tmp_path: Path) -> None:
    config = tmp_path / "broken.yaml"
    config.write_text("""
applications:
  - name: lfm2
    route_prefix: /
    import_path: serve_app.app:build
    args:
      models:
        - {id: lfm2-demo, engine_args: {max_model_len: 100000000}}
""")
    command = [sys.executable, "-m", "serve_app", "warm", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 1 and "lfm2-demo: its engine did not start" in done.stderr
