"""Whose lines of the log, and whose spans, they are."""

from __future__ import annotations

from typing import Literal, NamedTuple

Part = Literal["ingress", "engine", "batch", "console"]


class ProcessName(NamedTuple):
    """Of one process of a service."""

    part: Part
    application: str
    id: str
    """Of its replica."""
