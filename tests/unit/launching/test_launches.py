"""Launches are found by their files and what runs, and ended without touching anybody else's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.launching import down, launches
from serve_app.launching.launches import FILE, Launch
from serve_app.launching.processes import LAUNCH_ID, identity
from serve_app.launching.settings import CannotStart, LaunchSettings, check_port

SLEEP = "import time; time.sleep(60)"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(launches, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def process(started: list[subprocess.Popen[bytes]], mark: str = "") -> subprocess.Popen[bytes]:
    one = subprocess.Popen([sys.executable, "-c", SLEEP], env={**os.environ, LAUNCH_ID: mark})
    started.append(one)
    while mark and f"{LAUNCH_ID}={mark}".encode() not in Path(f"/proc/{one.pid}/environ").read_bytes():
        time.sleep(0.01)
    return one


def launch(root: Path, port: int, launcher: int, child: int | None = None) -> Launch:
    mark = uuid.uuid4().hex
    folder = root / f"{launches.PREFIX}{mark[:8]}"
    folder.mkdir()
    one = Launch(
        id=mark,
        folder=str(folder),
        config="a.yaml",
        url=f"http://127.0.0.1:{port}",
        port=port,
        began=time.time(),
        launcher=identity(launcher),
        child=identity(child) if child else None,
        cluster=None,
        drain_s=5.0,
    )
    one.save()
    return one


def test_a_launch_is_there_while_its_launcher_or_one_of_its_processes_is(
    root: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    launcher = process(started)
    one = launch(root, 8000, launcher.pid)
    left = process(started, one.id)
    assert launches.launches() == [one] == [launches.on_port(8000)] and launches.on_port(8001) is None
    assert f"process {launcher.pid}" in str(one)
    launcher.kill()
    launcher.wait()
    assert launches.launches() == [one] and "its launcher is gone" in str(one) and one.processes() == [left.pid]
    left.kill()
    left.wait()
    assert launches.launches() == []


def test_another_process_with_the_launchers_id_is_not_the_launcher(root: Path) -> None:
    one = launch(root, 8000, os.getpid())
    assert one.has_launcher
    pid, began = one.launcher
    changed = Launch(**one.__dict__ | {"launcher": (pid, began + 1)})
    assert not changed.has_launcher


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"id": 1}', "{"])
def test_a_file_that_is_none_of_ours_is_passed_over(root: Path, text: str) -> None:
    folder = root / f"{launches.PREFIX}x"
    folder.mkdir()
    (folder / FILE).write_text(text)
    assert launches.launches() == []


def test_a_taken_port_says_whose_it_is_and_what_to_do(root: Path, started: list[subprocess.Popen[bytes]]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        one = launch(root, port, process(started).pid)
        with pytest.raises(CannotStart) as caught:
            check_port(LaunchSettings(Path("a.yaml"), "127.0.0.1", port))
    for part in ("a.yaml", one.url, f"process {one.launcher[0]}", f"down --port {port}", "--replace"):
        assert part in str(caught.value)


def test_what_a_dead_launcher_left_is_ended_and_nothing_else(
    root: Path, started: list[subprocess.Popen[bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    launcher = process(started)
    launcher.kill()
    launcher.wait()
    one = launch(root, 8000, launcher.pid)
    left, other, another = process(started, one.id), process(started, "another"), process(started)
    two = launch(root, 8001, another.pid)
    assert down.main([]) == 2 and "--port" in capsys.readouterr().err
    assert down.main(["--port", "8002"]) == down.NOTHING_FOUND
    assert down.main(["--port", "8000"]) == 0
    assert "its launcher is gone" in (told := capsys.readouterr().out) and "nothing of it is left" in told
    assert left.wait(5) is not None and other.poll() is None and another.poll() is None
    assert launches.launches() == [two] and not Path(one.folder).exists() and Path(two.folder).exists()


def test_a_launcher_is_asked_to_end(root: Path, started: list[subprocess.Popen[bytes]]) -> None:
    launcher = process(started)
    one = launch(root, 8000, launcher.pid)
    assert down.main(["--now"]) == 0
    assert launcher.wait(5) == -15 and not Path(one.folder).exists()


def test_folders_of_the_dead_are_removed_after_a_day(root: Path, started: list[subprocess.Popen[bytes]]) -> None:
    dead = process(started)
    dead.kill()
    dead.wait()
    fresh, stale = launch(root, 1, dead.pid), launch(root, 2, dead.pid)
    running, unknown = launch(root, 3, process(started).pid), root / f"{launches.PREFIX}older"
    unknown.mkdir()
    others = root / "somebody-elses"
    others.mkdir()
    ago = time.time() - 2 * launches.LEFT_FOR_S
    for folder in (stale.folder, running.folder, unknown, others):
        os.utime(folder, (ago, ago))
    launches.sweep()
    left = {path.name for path in root.iterdir()}
    assert left == {Path(fresh.folder).name, Path(running.folder).name, others.name}
