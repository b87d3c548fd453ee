"""Processes that are forked from one made ready: they have their parent's environment of now, and end with it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil

PARENT = """
import os, signal, time
from multiprocessing import forkserver
from serve_app.engine import prefork

def child(pipe):
    pipe.send((os.getpid(), {name: os.environ.get(name) for name in ("BEFORE", "AFTER", "GONE")}))
    time.sleep(60)

if __name__ == "__main__":
    import json
    prefork.PRELOADED = ("json", "no_such_module")
    os.environ.update(BEFORE="1", GONE="1")
    prefork.begin()
    context = prefork.EngineContext()
    del os.environ["GONE"]
    os.environ["AFTER"] = "1"
    ours, theirs = context.Pipe()
    context.Process(target=child, args=(theirs,)).start()
    print(json.dumps(ours.recv()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_fork_has_its_parents_environment_and_ends_with_it(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, timeout=60)
    pid, environment = json.loads(done.stdout)
    assert environment == {"BEFORE": "1", "AFTER": "1", "GONE": None}
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)
