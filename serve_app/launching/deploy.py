"""`serve-app deploy CONFIG [--port N]`: give a service that `up` started another configuration, and see it through.

New replicas come before old ones go where there is room, and replicas of models that are as they were stay. On a
cluster of your own `serve deploy` does as much.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from serve_app.launching import settings
from serve_app.launching.environment import joining
from serve_app.launching.launches import Launch, launches

LOOK_S = 0.5
GCS_PORT = "ray/session_latest/gcs_server_port_*"
"""Where Ray writes, in a launch's folder, on which port its head listens."""


def main(argv: Sequence[str] | None = None) -> int:
    """0 when it runs, 1 when it does not and what ran before goes on, 2 if it is not clear which service is meant."""
    parser = argparse.ArgumentParser(prog="serve-app deploy", description="Give a running service a configuration.")
    parser.add_argument("config", type=Path, help="a configuration, such as configs/demo.yaml")
    parser.add_argument("--port", type=int, help="the HTTP port of the service; needed where several run")
    args = parser.parse_args(argv)
    found = [one for one in launches() if args.port in (None, one.port)]
    if len(found) != 1:
        what = "several are running; say which with --port:" if found else "no service that `up` started is running"
        print(what, *found, sep="\n  ", file=sys.stderr)
        return 2
    try:
        settings.check(args.config, elsewhere=found[0].cluster is not None)
        failure = deploy(found[0], args.config, lambda text: print(text, flush=True))
    except settings.CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    if failure is not None:
        print(f"what was deployed does not run, and what ran before goes on: {failure}", file=sys.stderr)
        return 1
    print("it runs")
    return 0


def deploy(launch: Launch, config: Path, say: Callable[[str], None] = lambda text: None) -> str | None:
    """Deploy a configuration to a service and wait until it runs; why it does not, None where it does.

    Joins the service's Ray cluster for as long. Raises CannotStart where that cannot be.
    """
    data = _as_it_will_run(launch, config)
    os.environ.update(joining())
    import ray

    from serve_app.compat import serve_status

    ray.init(_address(launch), namespace="serve", log_to_driver=False, logging_level="ERROR")
    try:
        serve_status.deploy(data)
        failure = _seen_through([one.get("name", "default") for one in data["applications"]], serve_status.look, say)
    finally:
        ray.shutdown()
    if failure is None:
        replace(launch, config=str(config)).save()
    return failure


def _seen_through(apps: list[str], look: Callable[[str], Any], say: Callable[[str], None]) -> str | None:
    """Waits until the last deploy of each application has come to an end."""
    for app in apps:
        told = ""
        while (known := look(app)).state in ("changing", "waiting"):
            if known.reason not in ("", told):
                told = known.reason
                say(f"waiting: {told}")
            time.sleep(LOOK_S)
        if known.state == "failed":
            return str(known.reason)
    return None


def _as_it_will_run(launch: Launch, config: Path) -> dict[str, Any]:
    """With the service's port, which no deploy can change, and digests for keys."""
    prepared = settings.prepare(config, launch.port, Path(launch.folder)).config
    return dict(yaml.safe_load(prepared.read_text(encoding="utf-8")))


def _address(launch: Launch) -> str:
    if launch.cluster is not None:
        return launch.cluster
    written = next(Path(launch.folder).glob(GCS_PORT), None)
    if written is None:
        raise settings.CannotStart(f"{launch} has no Ray yet, or no longer: wait until it is ready")
    return f"{settings.LOOPBACK}:{written.read_text().strip()}"
