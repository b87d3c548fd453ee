"""The real Prometheus, with this project's rules, scraping what a test tells it to."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serve_app.launching.environment import free_ports

ROOT = Path(__file__).parents[2]
DASHBOARDS = ROOT / "dashboards"
SCRAPE_S = 1
WINDOW = "20s"
"""What Grafana's `$__rate_interval` is here."""


def program(name: str) -> str:
    """Of Debian's package, where `make` unpacks it, or of the machine; skips the test where there is none."""
    unpacked = Path(sys.prefix) / "debian/usr/bin" / name
    found = str(unpacked) if unpacked.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name}: `make unit` unpacks Debian's on a system with apt")
    return found


class Prometheus:
    """One that runs."""

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The series an expression has now. Raises AssertionError where Prometheus does not take it."""
        answer = httpx.get(f"{self._url}/api/v1/query", params={"query": expr}, timeout=30).json()
        assert answer["status"] == "success", f"{expr}: {answer}"
        return list(answer["data"]["result"])

    def page(self, name: str) -> dict[str, Any]:
        """`targets`, `rules`."""
        return dict(httpx.get(f"{self._url}/api/v1/{name}", timeout=30).json()["data"])

    def without_series(self, exprs: Mapping[str, str], timeout_s: float) -> dict[str, str]:
        """Of expressions by what they are for, those that have no series, though asked again and again for so long."""
        missing, deadline = dict(exprs), time.monotonic() + timeout_s
        while True:
            missing = {name: expr for name, expr in missing.items() if not self.query(expr)}
            if not missing or time.monotonic() > deadline:
                return missing
            time.sleep(SCRAPE_S)


@contextlib.contextmanager
def prometheus(folder: Path, jobs: list[dict[str, Any]]) -> Iterator[Prometheus]:
    """With these `scrape_configs`, until the end of the block; its data lie in `folder`."""
    port = free_ports(1)[0]
    config = {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
        "rule_files": [str(DASHBOARDS / "rules.yaml")],
        "scrape_configs": jobs,
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    command = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 60
            while not _ready(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"Prometheus did not start: {log.read()[-4000:]}")
                time.sleep(0.1)
            yield Prometheus(url)
        finally:
            process.terminate()
            process.wait(60)


def _ready(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/-/ready", timeout=5).status_code == 200
    return False


def queries(board: str, **variables: str) -> dict[str, str]:
    """All of a dashboard, by their panel's title, as Grafana would ask them with these values of its variables."""
    found = {}
    for panel in json.loads((DASHBOARDS / f"{board}.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            expr = target["expr"].replace("$__rate_interval", WINDOW)
            for name, value in variables.items():
                expr = re.sub(rf"\$(?:{name}|{{{name}}})(?!\w)", value, expr)
            assert "$" not in expr, f"{board}: a variable without a value in {expr}"
            found[f"{board}: {panel['title']} {target['refId']}"] = expr
    return found
