"""The log of a process, as the configuration has it: nothing is done here, nor for a request, where it is text."""

from __future__ import annotations

from starlette.types import ASGIApp

from serve_app.config.telemetry import LogConfig
from serve_app.logs import json_lines
from serve_app.logs.context import Identified
from serve_app.logs.names import ProcessName


def start(config: LogConfig, process: ProcessName) -> None:
    """To be called before vLLM is imported."""
    if config.format == "json":
        json_lines.install(process)


def of_requests(config: LogConfig, app: ASGIApp) -> ASGIApp:
    """An application whose lines say which request they are about."""
    return Identified(app) if config.format == "json" else app
