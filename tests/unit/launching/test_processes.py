"""A launch knows its own processes, and ends no others."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import pytest

from serve_app.launching.processes import LAUNCH_ID, Family

SLEEP = "import time; time.sleep(60)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
PARENT = """if True:
    import os, subprocess, sys
    env = {**os.environ, "SERVE_APP_LAUNCH_ID": ""}
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=env, start_new_session=True)
    print(child.pid, flush=True)
    sys.stdin.read()
"""


class Nursery:
    """Starts processes of a launch."""

    def __init__(self) -> None:
        self.id = uuid.uuid4().hex
        self.family = Family(self.id)
        self.started: list[subprocess.Popen[str]] = []

    def start(self, code: str, mark: str | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, LAUNCH_ID: self.id if mark is None else mark},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.family.end(0)
    for process in nursery.started:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_only_its_own_are_ended(nursery: Nursery) -> None:
    mine, other = nursery.start(SLEEP), nursery.start(SLEEP, mark="another")
    assert nursery.family.members() == [mine.pid]
    assert nursery.family.end(5.0) == []
    assert mine.wait(5) == -signal.SIGTERM
    assert other.poll() is None


def test_those_that_do_not_listen_are_killed(nursery: Nursery) -> None:
    deaf = nursery.start(DEAF)
    said(deaf)
    assert nursery.family.end(0.5) == []
    assert deaf.wait(5) == -signal.SIGKILL


def test_without_patience_they_are_killed_at_once(nursery: Nursery) -> None:
    process = nursery.start(SLEEP)
    began = time.monotonic()
    nursery.family.end(0)
    assert process.wait(5) == -signal.SIGKILL
    assert time.monotonic() - began < 2


def test_a_child_without_the_mark_belongs_and_is_remembered_as_an_orphan(nursery: Nursery) -> None:
    parent = nursery.start(PARENT)
    orphan = int(said(parent))
    assert nursery.family.members() == sorted([parent.pid, orphan])
    parent.kill()
    parent.wait()
    assert nursery.family.members() == [orphan]
    assert nursery.family.end(5.0) == []


def test_the_launcher_itself_is_never_one(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os; from serve_app.launching.processes import Family;"
        f"print(os.getpid() in Family({nursery.id!r}).members())"
    )
    assert said(nursery.start(code)).strip() == "False"
