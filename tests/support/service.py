"""A running service: started as a user starts it, and asked for its metrics."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from serve_app.launching import launches
from serve_app.launching.environment import free_ports
from serve_app.launching.events import Ended, Ready, read
from serve_app.launching.processes import Family


@dataclass(frozen=True)
class Service:
    """Where a service listens."""

    url: str


@contextlib.contextmanager
def running_service(config: Path, start_timeout_s: float) -> Iterator[Service]:
    """`serve-app up CONFIG` on a free port, until it is ready; ended by SIGTERM."""
    port = free_ports(1)[0]
    with tempfile.TemporaryFile("w+") as log, tempfile.TemporaryDirectory() as folder:
        events = Path(folder) / "events.jsonl"
        command = [sys.executable, "-m", "serve_app", "up", str(config), "--port", str(port), "--events", str(events)]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            yield Service(_ready(events, start_timeout_s, process).url)
        except BaseException:
            log.seek(0)
            print(log.read()[-20_000:])
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(90)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise


def _ready(events: Path, timeout_s: float, process: subprocess.Popen[bytes]) -> Ready:
    """Waits for the service to say that it is ready; raises RuntimeError where it ends before, TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for event in read(events):
            if isinstance(event, Ready):
                return event
            if isinstance(event, Ended):
                raise RuntimeError(f"the service did not start: {event.reason}")
        if process.poll() is not None:
            raise RuntimeError(f"the service ended with {process.returncode} while it was starting")
        time.sleep(0.2)
    raise TimeoutError(f"the service was not ready after {timeout_s:g} s")


def launch(service: Service) -> launches.Launch:
    found = launches.on_port(int(service.url.rpartition(":")[2]))
    assert found is not None
    return found


def replicas(service: Service, deployment: str) -> set[int]:
    """Processes of a deployment of the application lfm2."""
    titles = {pid: " ".join(_command(pid)) for pid in Family(launch(service).id).members()}
    return {pid for pid, title in titles.items() if f"ServeReplica:lfm2:{deployment}" in title}


def _command(pid: int) -> list[str]:
    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return []


def with_batch(config: Path, directory: Path, folder: Path) -> Path:
    """A copy of a configuration, in `folder`, with the Batch API in `directory`."""
    return with_sections(config, folder, batch={"directory": str(directory), "cpus": 0.1})


def with_sections(config: Path, folder: Path, **sections: Any) -> Path:
    """A copy of a configuration, in `folder`, with further keys beside its models."""
    data = yaml.safe_load(config.read_text())
    data["applications"][0]["args"] |= sections
    copy = folder / config.name
    copy.write_text(yaml.safe_dump(data))
    return copy


def with_adapters(config: Path, directory: Path, folder: Path) -> Path:
    """A copy of a configuration, in `folder`, whose first model looks for adapters in `directory` too."""
    data = yaml.safe_load(config.read_text())
    data["applications"][0]["args"]["models"][0]["adapters"]["directory"] = str(directory)
    copy = folder / config.name
    copy.write_text(yaml.safe_dump(data))
    return copy


def stream_to_end(url: str, model: str, tokens: int, begun: threading.Event, **headers: str) -> int:
    """Ask for so many tokens one by one; how many came. Raises ValueError for an answer that was cut off."""
    body = {"model": model, "prompt": "a", "max_tokens": tokens, "ignore_eos": True, "stream": True}
    events = []
    with httpx.stream("POST", f"{url}/v1/completions", json=body, headers=headers, timeout=60) as response:
        for line in filter(None, response.iter_lines()):
            events.append(line.removeprefix("data: "))
            begun.set()
    if events[-1:] != ["[DONE]"]:
        raise ValueError(f"the stream ended after {len(events)} events, {events[-1:]}")
    return len(events) - 1


def wait_ready(url: str, timeout_s: float, process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the service ended with {process.returncode} while it was starting")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/ready", timeout=5).status_code == 200:
                return
        time.sleep(0.5)
    raise TimeoutError(f"the service was not ready after {timeout_s:g} s")


def gauge(url: str, name: str, model: str | None = None) -> dict[str, float]:
    """A metric by replica, from the service's /metrics."""
    values: dict[str, float] = {}
    for line in httpx.get(f"{url}/metrics", timeout=10).text.splitlines():
        if line.startswith(name + "{") and (model is None or f'model_name="{model}"' in line):
            replica = re.search(r'replica="([^"]+)"', line)
            values[replica[1] if replica else ""] = float(line.rsplit(" ", 1)[1])
    return values


def logged(service: Service) -> list[dict[str, Any]]:
    """What its log says in JSON, of whatever process."""
    text = (Path(launch(service).folder) / "service.log").read_text()
    found: list[dict[str, Any]] = [json.loads(line) for line in re.findall(r"(\{\"time\": .*\})", text)]
    return found
