"""The configuration file that Ray Serve, or this project on it, is started with for a measurement."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from serve_app.config.file import IMPORT_PATH


def write(
    path: Path,
    args: Mapping[str, Any],
    *,
    port: int | None = None,
    name: str = "lfm2",
    import_path: str = IMPORT_PATH,
    **top: Any,
) -> Path:
    """A file with one application, at `/`; its path.

    `args` are the application's. With a port, Ray Serve's proxy listens there, on this machine alone; without one, the
    file says nothing of it. `name` is in the titles of the application's processes. Unless `import_path` says
    otherwise, the application is this project. `top` are further keys of the file.
    """
    application = {"name": name, "route_prefix": "/", "import_path": import_path, "args": dict(args)}
    http = {} if port is None else {"http_options": {"host": "127.0.0.1", "port": port}}
    path.write_text(yaml.safe_dump({**http, **top, "applications": [application]}, sort_keys=False))
    return path
