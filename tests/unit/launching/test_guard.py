"""What a starter leaves behind ends by itself when the starter is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil

from serve_app.launching.guard import Guard, marked
from serve_app.launching.processes import Family

STARTER = """
import os, subprocess, sys, time
from serve_app.launching.guard import Guard, marked
from serve_app.launching.processes import Family
family = Family(sys.argv[1])
server = '''
import subprocess, sys, time
engine = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(engine.pid, flush=True)
time.sleep(600)
'''
with Guard(family):
    child = subprocess.Popen(
        [sys.executable, "-c", server], env={**os.environ, **marked(family)}, start_new_session=True
    )
    print(child.pid, flush=True)
    time.sleep(float(sys.argv[2]))
"""


def start(mark: str, for_s: float) -> tuple[subprocess.Popen[str], list[int]]:
    """A starter; ids of its server and of that one's engine."""
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, mark, str(for_s)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert starter.stdout is not None
    return starter, [int(starter.stdout.readline()) for _ in range(2)]


def test_a_kill_that_nobody_can_catch_leaves_neither_server_nor_engine() -> None:
    starter, pids = start(uuid.uuid4().hex, 600)
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    deadline = time.monotonic() + 30
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(psutil.pid_exists, pids))


def test_one_that_is_dismissed_ends_nobody() -> None:
    mark = uuid.uuid4().hex
    starter, pids = start(mark, 0)
    assert starter.wait(30) == 0
    assert set(Family(mark).members()) == set(pids)
    assert Family(mark).end(5) == []


def test_a_guard_is_none_of_the_family(tmp_path: Path) -> None:
    family = Family(uuid.uuid4().hex)
    assert set(marked(family)) == {"SERVE_APP_LAUNCH_ID", "SPT_NOENV"}
    with Guard(family):
        assert family.members() == []
