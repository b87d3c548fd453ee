"""Traces of a process, where the configuration asks for them: nothing of OpenTelemetry is imported here where not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serve_app.config.telemetry import TracingConfig
from serve_app.logs.names import ProcessName

if TYPE_CHECKING:
    from serve_app.tracing.process import Tracing


def start(config: TracingConfig | None, process: ProcessName) -> Tracing | None:
    """None where nothing is traced. Raises ModuleNotFoundError where OpenTelemetry is not installed."""
    if config is None:
        return None
    try:
        from serve_app.tracing.process import Tracing
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"`tracing` needs {error.name}: pip install 'serve-app[tracing]'") from error
    return Tracing(config, process)
