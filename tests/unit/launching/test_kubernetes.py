"""The image and the manifest: that they fit each other, the package's pins, and what `up` sets on one machine."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.config.file import load
from serve_app.launching.environment import asked

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
MANIFEST = ROOT / "configs" / "kuberay.yaml"


@pytest.fixture
def containers() -> list[dict[str, Any]]:
    cluster = yaml.safe_load(MANIFEST.read_text())["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [one for group in groups for one in group["template"]["spec"]["containers"]]


def test_the_image_is_rays_of_the_pinned_version() -> None:
    (pinned,) = re.findall(r'"ray\[serve\]==([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert f"ARG RAY_VERSION={pinned}\n" in DOCKERFILE
    assert f'rayVersion: "{pinned}"' in MANIFEST.read_text()
    assert re.findall(r"^FROM (\S+)$", DOCKERFILE, re.M) == ["rayproject/ray:${RAY_VERSION}-py312-gpu"]


def test_all_that_is_copied_is_there_and_not_ignored() -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line]
    assert ignored[0] == "*"
    for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.M):
        *sources, _ = [word for word in line.split() if not word.startswith("--")]
        for source in sources:
            assert (ROOT / source).exists() and f"!{source}" in ignored


def test_nothing_secret_and_no_weights_get_into_the_image() -> None:
    kept = [
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    assert not any(fnmatch(name, one) for name in (".git", ".venv", ".env") for one in kept)
    assert not re.search(r"token|password|secret", DOCKERFILE, re.I)


def test_every_pod_has_the_environment_that_up_sets(containers: list[dict[str, Any]]) -> None:
    wanted = asked([one.config for one in load(MANIFEST).applications])
    for one in containers:
        found = {entry["name"]: entry["value"] for entry in one["env"]}
        assert {name: found.get(name) for name in wanted} == wanted
        assert found["RAY_SERVE_ENABLE_HA_PROXY"] == "1" and found["RAY_worker_niceness"] == "0"
        assert found["RAY_SERVE_HAPROXY_BINARY_PATH"].endswith("/bin/serve-app-haproxy")
    assert len({one["image"] for one in containers}) == 1


def test_liveness_never_asks_the_service_and_no_probe_is_hasty(containers: list[dict[str, Any]]) -> None:
    for one in containers:
        assert "healthz" in str(one["livenessProbe"]) and "8000" not in str(one["livenessProbe"])
        for probe in (one["livenessProbe"], one["readinessProbe"]):
            assert probe["timeoutSeconds"] >= 5 and probe["failureThreshold"] >= 3
            waits = int(re.findall(r"-T (\d+)", probe["exec"]["command"][-1])[0])
            assert waits < probe["timeoutSeconds"]
    head, *workers = containers
    assert "8000" not in str(head["readinessProbe"]) and all(
        "8000/-/healthz" in str(w["readinessProbe"]) for w in workers
    )


def test_the_compile_cache_of_the_image_is_kept_on_the_node(containers: list[dict[str, Any]]) -> None:
    (folder,) = re.findall(r"^ENV XDG_CACHE_HOME=(\S+)$", DOCKERFILE, re.M)
    assert folder in {mount["mountPath"] for mount in containers[-1]["volumeMounts"]}
