"""A measurement that is killed leaves no server: neither this project's service nor anybody else's."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

COMMANDS = {
    "compare": ["compare", "path", "--contenders", "ours-1", "--loads", "chat-128", "--rounds", "9"],
    "interference": ["interference", "simulated", "--requests", "100000"],
    "offline": ["offline", "simulated", "--prompts", "1000000"],
}
SERVER = "ray::"
"""How the titles of a service's processes begin, once it is up."""


def below(command: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(command.pid).children(recursive=True)


def titles(processes: list[psutil.Process]) -> list[str]:
    found = []
    for one in processes:
        try:
            found.append(" ".join(one.cmdline()))
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("compare", signal.SIGKILL),
        ("compare", signal.SIGTERM),
        ("offline", signal.SIGKILL),
        ("offline", signal.SIGTERM),
        ("interference", signal.SIGKILL),
    ],
)
def test_nothing_is_left(tmp_path: Path, name: str, sign: signal.Signals) -> None:
    with (tmp_path / "log").open("wb") as log:
        command = subprocess.Popen(
            [sys.executable, "-m", "serve_app", *COMMANDS[name]], stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while not any(SERVER in title for title in titles(below(command))):
            assert command.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.5)
        started = below(command)
        command.send_signal(sign)
        command.wait(60)
        _, left = psutil.wait_procs(started, timeout=40)
        assert not left, titles(left)
    finally:
        command.kill()
        for one in below(command) if command.poll() is None else []:
            one.kill()
