"""What the Prometheus operator is told on Kubernetes: whom to scrape, and the rules."""

from __future__ import annotations

from typing import Any

from tools.dashboards import rules

SERVICE = "lfm2"
"""The label `app` of the service's pods, as configs/kuberay.yaml has it."""
RELEASE = {"release": "prometheus"}
"""By which the operator's Helm chart, installed under that name, finds monitors and rules."""


def manifests() -> list[dict[str, Any]]:
    """The head alone is asked for the service's metrics, for it answers for all; each pod for those of its node."""
    return [
        _monitor("lfm2-service", {"app": SERVICE, "ray.io/node-type": "head"}, "serve", "/metrics"),
        _monitor("lfm2-nodes", {"app": SERVICE}, "metrics", "/metrics"),
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "lfm2", "labels": RELEASE},
            "spec": {"groups": rules.groups()},
        },
    ]


def _monitor(name: str, pods: dict[str, str], port: str, path: str) -> dict[str, Any]:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": name, "labels": RELEASE},
        "spec": {
            "selector": {"matchLabels": pods},
            "podMetricsEndpoints": [{"port": port, "path": path, "interval": "15s"}],
        },
    }
