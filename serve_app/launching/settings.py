"""What to start: the configuration as it will run, and the Ray it will run on."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from serve_app.config.api_keys import loggable
from serve_app.config.errors import ConfigError
from serve_app.config.file import IMPORT_PATH, load
from serve_app.config.schema import ServiceConfig
from serve_app.launching.launches import on_port
from serve_app.planning.machine import check_machine

LOOPBACK = "127.0.0.1"
EVERYWHERE = ("0.0.0.0", "::")


class CannotStart(Exception):
    """Something to put right before a service can start; the text says what."""


@dataclass(frozen=True)
class LaunchSettings:
    """A configuration file ready for `serve run`, and where it will listen."""

    config: Path
    host: str
    port: int
    named: Path = field(default=Path(), compare=False)
    """What the user called the configuration."""

    @property
    def url(self) -> str:
        """Where this machine reaches it."""
        host = LOOPBACK if self.host in EVERYWHERE else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def prepare(config: Path, port: int | None, folder: Path) -> LaunchSettings:
    """Read the configuration; where `port`, its silence about the host or a key written out changes it, a copy goes
    to `folder`."""
    data = _read(config)
    changed = _seal_keys(data) + _write_json(data)
    named = config
    before = data.get("http_options") or {}
    after = {"host": LOOPBACK, "port": 8000, **before}
    if port is not None:
        after["port"] = port
    if after != before or changed:
        config = folder / config.name
        config.write_text(yaml.safe_dump({**data, "http_options": after}, sort_keys=False))
    return LaunchSettings(config, str(after["host"]), int(after["port"]), named)


def check(config: Path, elsewhere: bool = False) -> list[ServiceConfig]:
    """The services a file describes. Raises CannotStart for all that can be known before anything starts, but for what
    is not on this machine where they start elsewhere."""
    _read(config)
    try:
        file = load(config)
        if not elsewhere:
            check_machine(file, starting=True)
    except ConfigError as error:
        raise CannotStart(str(error)) from None
    return [one.config for one in file.applications]


def check_port(settings: LaunchSettings) -> None:
    """HAProxy would share a taken port with its owner, and each client would reach either."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise CannotStart(_taken(settings, error.strerror or str(error))) from None


def _taken(settings: LaunchSettings, reason: str) -> str:
    owner = on_port(settings.port)
    if owner is None:
        where = f"{settings.host}:{settings.port}"
        return f"cannot listen on {where} ({reason}); choose another port with --port"
    return (
        f"port {settings.port} is taken by {owner}; end it with `serve-app down --port {settings.port}`,"
        " or start in its place with --replace, or choose another port with --port"
    )


def chosen_cluster() -> str | None:
    """The Ray cluster the user names in RAY_ADDRESS; None where a new one is to start."""
    address = os.environ.get("RAY_ADDRESS", "")
    return None if address in ("", "local") else address


def nearby_cluster() -> str | None:
    """A Ray cluster that runs here and that Ray itself would join. Deploying to it would replace what it serves."""
    try:
        address = (Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster").read_text().strip()
        host, port = address.rsplit(":", 1)
        socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
    except (OSError, ValueError):
        return None
    return address


def _seal_keys(data: dict[str, Any]) -> bool:
    """Put the digest of each API key that is written out in its place: Ray logs what it deploys. Whether any was."""
    found = False
    for application in data["applications"]:
        if application.get("import_path") == IMPORT_PATH:
            ingress = (application.get("args") or {}).get("ingress") or {}
            entries = ingress.get("api_keys") or []
            ingress["api_keys"] = [str(loggable(entry)) for entry in entries]
            found = found or ingress["api_keys"] != entries
            for one in ingress.get("keys") or []:
                if one.get("key") is not None:
                    entry, one["key"] = one["key"], str(loggable(one["key"]))
                    found = found or one["key"] != entry
    return found


def _write_json(data: dict[str, Any]) -> bool:
    """Have Ray Serve's own processes write their logs as the service does; whether that changes anything."""
    args = (one.get("args") or {} for one in data["applications"] if one.get("import_path") == IMPORT_PATH)
    if "logging_config" in data or not any((one.get("logging") or {}).get("format") == "json" for one in args):
        return False
    data["logging_config"] = {"encoding": "JSON"}
    return True


def _read(config: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise CannotStart(f"{config}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CannotStart(f"{config}: not YAML: {error}") from None
    if not isinstance(data, dict) or not data.get("applications"):
        raise CannotStart(f"{config}: not a Ray Serve configuration: it has no `applications`")
    return data
