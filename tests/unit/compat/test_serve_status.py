"""Serve's statuses and messages as one word and one sentence."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from serve_app.compat.serve_status import read, sentence

STARTUP = """\
The deployment failed to start 4 times in a row during a rolling update. See controller logs for details. Error:
\x1b[36mray::ServeReplica:lfm2:m.initialize_and_get_metadata()\x1b[39m (pid=7, ip=127.0.0.1)
  File "/replica.py", line 1928, in initialize
    raise RuntimeError(traceback.format_exc()) from None
RuntimeError: Traceback (most recent call last):
  File "/deployment.py", line 1, in _started
serve_app.replica.failed_starts.PermanentStartError: m: there is no folder /w"""
BUILD = """\
Deploying app 'lfm2' failed with exception:
ray.exceptions.RayTaskError(RuntimeError): ray::build_serve_application() (pid=1)
serve_app.config.errors.ConfigError: the configuration: 2 problems
  models[0].engine_args.no_such: unknown key
  models[1].cpus: should be at least 0
"""
PENDING = "Deployment 'm' in application 'a' has 2 replicas that have taken more than 30s to be scheduled. This may"
SLOW = "Deployment 'm' in application 'a' has 1 replicas that have taken more than 30s to initialize.\nThis may"


def app(status: str, message: str = "", **deployments: tuple[str, str]) -> Any:
    def named(value: str) -> SimpleNamespace:
        return SimpleNamespace(value=value)

    told = {name: SimpleNamespace(status=named(one[0]), message=one[1]) for name, one in deployments.items()}
    return SimpleNamespace(status=named(status), message=message, deployments=told)


def test_what_cannot_start_is_told_by_its_last_exception() -> None:
    found = read(app("DEPLOY_FAILED", "Failed to update ['m'].", m=("DEPLOY_FAILED", STARTUP), n=("HEALTHY", "")))
    assert (found.state, found.reason) == ("failed", "m: there is no folder /w")
    assert found.settled == {"n"}


def test_what_cannot_be_built_is_told_with_all_its_problems() -> None:
    found = read(app("DEPLOY_FAILED", BUILD, m=("HEALTHY", "")))
    assert found.reason == (
        "the configuration: 2 problems models[0].engine_args.no_such: unknown key models[1].cpus: should be at least 0"
    )


@pytest.mark.parametrize(("message", "state"), [(PENDING, "waiting"), (SLOW, "changing"), ("", "changing")])
def test_what_finds_no_place_waits(message: str, state: str) -> None:
    found = read(app("DEPLOYING", m=("UPDATING", message)))
    assert found.state == state
    assert ("max_surge_percent: 0" in found.reason) == (state == "waiting")


def test_what_runs_runs() -> None:
    assert read(app("RUNNING", m=("HEALTHY", ""))).state == "running"
    assert sentence("The actor died unexpectedly.\nIt was killed.") == "It was killed."
