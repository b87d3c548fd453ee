"""Open requests end before a service stops: HAProxy is asked to go, and nobody replaces it meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serve_app.launching.drain import drain
from serve_app.launching.processes import LAUNCH_ID, Family

CONTROLLER, MANAGER = "exec -a ray::ServeController sleep 60", "exec -a ray::HAProxyManager sleep 60"
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def family() -> Family:
    return Family(uuid.uuid4().hex)


@pytest.fixture
def start(family: Family) -> Iterator[Start]:
    """Starts a script of Bash, by default as itself, in the family; returns once it runs."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(script: str, shell: Path = Path("/bin/bash")) -> subprocess.Popen[bytes]:
        environment = {**os.environ, LAUNCH_ID: family.launch_id}
        one = subprocess.Popen([shell, "-c", f"echo; {script}"], env=environment, stdout=subprocess.PIPE)
        started.append(one)
        assert one.stdout is not None and one.stdout.readline()
        while script.startswith("exec") and not Path(f"/proc/{one.pid}/cmdline").read_bytes().startswith(b"ray::"):
            time.sleep(0.01)
        return one

    yield begin
    for one in started:
        one.kill()
        one.communicate()


@pytest.fixture
def haproxy(tmp_path: Path) -> Path:
    return Path(shutil.copy("/bin/bash", tmp_path / "haproxy"))


def state(process: subprocess.Popen[bytes]) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def becomes(process: subprocess.Popen[bytes], wanted: str) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if state(process) == wanted:
            return True
        time.sleep(0.02)
    return False


def test_it_lasts_until_haproxy_has_ended_and_serve_stands_still(family: Family, start: Start, haproxy: Path) -> None:
    controller, manager = start(CONTROLLER), start(MANAGER)
    door = start("trap 'read; exit' USR1; while :; do sleep 0.1; done", haproxy)
    told: list[str] = []
    draining = threading.Thread(target=drain, args=(family, 60.0, told.append))
    draining.start()
    assert becomes(controller, "T") and becomes(manager, "T") and draining.is_alive()
    door.kill()
    door.wait()
    draining.join(20)
    assert "60 s" in told[0] and told[-1] == "every open request has ended"
    assert becomes(controller, "S") and manager.wait(20) == -signal.SIGKILL, "it would start the next HAProxy"


def test_what_does_not_end_in_time_is_cut(family: Family, start: Start, haproxy: Path) -> None:
    start("trap '' USR1; while :; do sleep 0.1; done", haproxy)
    told: list[str] = []
    drain(family, 0.5, told.append)
    assert told[-1] == "some requests were cut off"


def test_a_stop_in_the_midst_leaves_nobody_halted(family: Family, start: Start, haproxy: Path) -> None:
    controller = start(CONTROLLER)
    start("trap '' USR1; while :; do sleep 0.1; done", haproxy)

    def stop(text: str) -> None:
        if "cut off" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drain(family, 0.3, stop)
    assert becomes(controller, "S")


def test_without_haproxy_nothing_is_waited_for_and_what_was_halted_goes_on(family: Family, start: Start) -> None:
    controller = start(CONTROLLER)
    controller.send_signal(signal.SIGSTOP)
    assert becomes(controller, "T")
    told: list[str] = []
    drain(family, 60.0, told.append)
    assert not told and becomes(controller, "S")
