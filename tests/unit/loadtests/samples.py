"""Replicas over time, made up."""

from __future__ import annotations

from loadtests.results.replicas import ReplicaCounts


def samples(*changes: tuple[float, int, int]) -> list[ReplicaCounts]:
    """From changes as (time in s, target, ready)."""
    return [ReplicaCounts(at, target, ready, max(target, ready), 0.0) for at, target, ready in changes]
