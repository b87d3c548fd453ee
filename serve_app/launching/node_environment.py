"""`serve-app environment CONFIG ...`: the variables in which `ray start` runs on each node of a cluster.

Ray and HAProxy read them when a node starts, so that no configuration that is deployed later can set them. `up` sets
the same by itself; here they are printed for a shell:

    eval "$(serve-app environment configs/lfm2-cluster.yaml)"; ray start --head
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from serve_app.config.errors import ConfigError
from serve_app.config.file import load
from serve_app.config.schema import ServiceConfig
from serve_app.launching.environment import PATIENCE, WANTED, asked


def node_environment(services: Sequence[ServiceConfig]) -> dict[str, str]:
    """What these services need of a node they share with others; raises FileNotFoundError where the package's HAProxy
    is not beside its Python."""
    name = "serve-app-haproxy"
    if (haproxy := shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)) is None:
        raise FileNotFoundError(f"there is no {name} beside {sys.executable} or on PATH: install serve-app with pip")
    return {
        **WANTED,
        "RAY_AUTH_MODE": "token",
        "RAY_SERVE_HAPROXY_BINARY_PATH": haproxy,
        **asked(services),
        **PATIENCE,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """0 when the variables were printed."""
    parser = argparse.ArgumentParser(prog="serve-app environment", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("configs", nargs="+", type=Path, help="what is to run on the cluster, now or later")
    args = parser.parse_args(argv)
    try:
        services = [one.config for path in args.configs for one in load(path).applications]
        variables = node_environment(services)
    except (ConfigError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0
