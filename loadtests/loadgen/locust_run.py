"""One load test as a call: Locust without its web UI, in processes of its own, because it patches the one it is in."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from loadtests.loadgen import lengths as lengths_module
from loadtests.loadgen import record_parts, traffic
from loadtests.loadgen.options import API_KEY_VARIABLE
from loadtests.results import record
from loadtests.results.record import Record
from serve_app.launching.environment import free_ports

ROOT = Path(__file__).parents[2]
LOCUSTFILE = ROOT / "loadtests" / "locustfile.py"
STOP_S = 20.0
"""How long Locust may take to end after it was asked to."""
FOR_THE_RECORDS = frozenset({0, 1, 3})
"""Locust's exit statuses of a test that was, with failures (1) or before a request was due (3): records tell it."""


class LocustFailed(Exception):
    """Locust did not run, or the test cannot be; carries the end of its output."""


def run(
    url: str,
    model: str,
    load: str | int,
    lengths: str,
    seconds: float | None = None,
    *,
    out: Path,
    workers: int = 1,
    scenario: str = "chat",
    seed: int = 1,
    slo: str | None = None,
    api_key: str = "",
    options: Mapping[str, str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Record]:
    """Put the load on the service; what became of each request, in order of schedule.

    `load` is a traffic spec in requests/s (`spike:base=2,...`, an open loop) or a number of users (a closed loop, which
    needs `seconds`; traffic ends after them if it has not before). `lengths` is a spec as well. `options` are further
    options of the Locust file, without dashes. `progress` is called with each line that Locust says. Records are kept
    in `out` while the test runs: an exception or Ctrl-C in this process ends Locust and leaves there what had ended.

    Raises BadSpec, and LocustFailed when Locust did not run.
    """
    lengths_module.parse(lengths)
    if isinstance(load, str):
        traffic.parse(load)
        words = ["--traffic", load]
    elif seconds is None:
        raise ValueError("a closed loop needs seconds")
    else:
        words = ["--users", str(load), "--spawn-rate", str(load)]
    if seconds is not None:
        words += ["--run-time", f"{max(1, round(seconds))}s"]
    if workers > 1:
        port = str(free_ports(1)[0])
        words += ["--processes", str(workers), "--master-port", port]
        words += ["--master-bind-host", "127.0.0.1", "--master-bind-port", port]
    named = {"host": url, "model": model, "lengths": lengths, "scenario": scenario, "seed": str(seed)}
    named |= {"records": str(out), **({"slo": slo} if slo else {}), **(options or {})}
    words += [word for key, value in named.items() for word in (f"--{key}", value)]
    record_parts.clear(out)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    if api_key:
        environment[API_KEY_VARIABLE] = api_key
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary", *words]
    try:
        _follow(command, environment, progress)
    finally:
        record_parts.gather(out)
    if not out.exists():
        raise LocustFailed("Locust wrote no records")
    return record.read(out)


def _follow(command: list[str], environment: dict[str, str], progress: Callable[[str], None] | None) -> None:
    last: deque[str] = deque(maxlen=40)
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            last.append(line)
            if progress:
                progress(line.rstrip("\n"))
        status = process.wait()
    finally:
        _end(process)
    if status not in FOR_THE_RECORDS:
        raise LocustFailed("".join(last).strip())


def _end(process: subprocess.Popen[str]) -> None:
    """Ask it to stop, as Ctrl-C does, and see to it that it has."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout:
        process.stdout.close()
