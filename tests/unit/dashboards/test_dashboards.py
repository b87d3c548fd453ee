"""What lies in dashboards/: written from the source, taken by Prometheus, and fitting the manifests."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from tests.support.modules import modules
from tests.support.prometheus import DASHBOARDS, ROOT, program
from tools.dashboards import kubernetes, names

BOARDS = {path.name for path in DASHBOARDS.glob("*.json")}


def test_what_is_committed_is_what_is_written() -> None:
    pytest.importorskip("grafana_foundation_sdk", reason="`make unit` installs it")
    from tools.dashboards.__main__ import files

    written = files()
    assert {name for name in written if name.endswith(".json")} == BOARDS
    for name, text in written.items():
        assert (DASHBOARDS / name).read_text() == text, f"{name} is not what `python -m tools.dashboards` writes"


def test_every_metric_of_ours_is_named_in_the_service() -> None:
    named = {text for module in modules("serve_app").values() for _, text in module.strings}
    ours = [value for value in vars(names).values() if isinstance(value, str) and value.startswith("serve_app_")]
    assert len(ours) > 20
    assert not [one for one in ours if not {one, one.removesuffix("_total")} & named]


def test_ray_names_its_nodes_metrics_so() -> None:
    """It puts `ray_` before them. Those of GPUs are there where a GPU is, and so on no page that a test sees."""
    agent = (Path(ray.__file__).parent / "dashboard/modules/reporter/reporter_agent.py").read_text()
    rays = [value for value in vars(names).values() if isinstance(value, str) and value.startswith("ray_")]
    assert len(rays) == 6
    assert not [one for one in rays if f'"{one.removeprefix("ray_")}": Gauge(' not in agent]
    assert all(f'"{label}"' in agent for label in ("ip", "GpuIndex"))


def test_prometheus_takes_the_rules() -> None:
    checked = _promtool("check", "rules", "--lint-fatal", DASHBOARDS / "rules.yaml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_is_told_when_it_should_be_and_not_otherwise() -> None:
    cases = Path(__file__).parent / "rules_test.yaml"
    alerts = set(re.findall(r"alert: (\w+)", (DASHBOARDS / "rules.yaml").read_text()))
    told = {
        one["alertname"]
        for test in yaml.safe_load(cases.read_text())["tests"]
        for one in test["alert_rule_test"]
        if one["exp_alerts"]
    }
    # Of the slow and the fast one the expressions differ in nothing but two numbers.
    assert alerts - told == {"LFM2LateSlow"}
    checked = _promtool("test", "rules", cases)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_kubernetes_gets_every_dashboard_and_the_same_rules() -> None:
    kustomization = yaml.safe_load((DASHBOARDS / "kustomization.yaml").read_text())
    (dashboards,) = kustomization["configMapGenerator"]
    assert set(dashboards["files"]) == BOARDS
    # A ConfigMap may have 1 MiB, and `kubectl apply` keeps a copy of it in an annotation of 256 KiB.
    assert sum((DASHBOARDS / name).stat().st_size for name in BOARDS) < 200 * 2**10
    (resources,) = kustomization["resources"]
    *_, rules = yaml.safe_load_all((DASHBOARDS / resources).read_text())
    assert rules["spec"] == yaml.safe_load((DASHBOARDS / "rules.yaml").read_text())


def test_monitors_select_pods_and_ports_of_the_manifest() -> None:
    """KubeRay labels each pod with its `ray.io/node-type`."""
    cluster = yaml.safe_load((ROOT / "configs/kuberay.yaml").read_text())["spec"]["rayClusterConfig"]
    head, *workers = [_pod(one) for one in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]]
    head[0]["ray.io/node-type"] = "head"
    for labels, _ in workers:
        labels["ray.io/node-type"] = "worker"
    service, nodes, _ = kubernetes.manifests()
    assert [pod for pod in (head, *workers) if _selects(service, pod)] == [head]
    assert all(_selects(nodes, pod) for pod in (head, *workers))


def _pod(group: dict[str, Any]) -> tuple[dict[str, str], set[str]]:
    """Its labels and the names of its ports."""
    template = group["template"]
    ports = {port["name"] for container in template["spec"]["containers"] for port in container["ports"]}
    return dict(template["metadata"]["labels"]), ports


def _selects(monitor: dict[str, Any], pod: tuple[dict[str, str], set[str]]) -> bool:
    labels, ports = pod
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    return monitor["spec"]["selector"]["matchLabels"].items() <= labels.items() and endpoint["port"] in ports


def _promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program("promtool"), *map(str, arguments)], capture_output=True, text=True, check=False)
