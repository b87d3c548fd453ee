"""Without `tracing` in the configuration there is nothing of it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from serve_app.config.errors import ConfigError
from serve_app.config.schema import ServiceConfig

CHECK = """
import sys
import serve_app.app
from serve_app.logs.names import ProcessName
from serve_app.tracing.start import start

assert start(None, ProcessName("ingress", "app", "id")) is None
ours = {name for name in sys.modules if name.startswith("serve_app.tracing.")}
assert ours == {"serve_app.tracing.start"}, ours
exporters = [name for name in sys.modules if name.startswith("opentelemetry.exporter")]
assert not exporters, exporters
"""
"""Ray Serve 2.60 imports OpenTelemetry's API and SDK by itself, wherever they are installed."""


def parsed(**tracing: Any) -> Any:
    return ServiceConfig.parse({"models": [{"id": "lfm2-demo"}], "tracing": tracing}).tracing


def test_nothing_of_it_is_imported_where_it_is_off() -> None:
    subprocess.run([sys.executable, "-c", CHECK], check=True)


def test_an_endpoint_is_a_collectors_address() -> None:
    assert parsed(endpoint="http://collector:4318").endpoint == "http://collector:4318/v1/traces"
    assert parsed(endpoint="https://a.example/otlp/v1/traces").endpoint == "https://a.example/otlp/v1/traces"
    for wrong in ("collector:4318", "grpc://collector:4317", "http://me:secret@collector:4318"):
        with pytest.raises(ConfigError, match=r"tracing\.endpoint") as caught:
            parsed(endpoint=wrong)
        assert "me:secret" not in str(caught.value)
