"""Writes `dashboards/`: Grafana's dashboards, Prometheus' rules, and both for Kubernetes.

`python -m tools.dashboards` writes all of it anew.
"""
