"""Ray Serve's own manager of HAProxy, with a real HAProxy that is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from serve_app.compat import build_keeps_serving, haproxy_restart
from tests.support.haproxy import exchange, get, haproxy_api, server


@pytest.fixture
async def api(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """Started, before a server that answers."""
    async with server() as (port, _):
        api = haproxy_api(short_path, port)
        kind = type(api)
        for name in ("_start_and_wait_for_haproxy", "_graceful_reload", "stop"):
            monkeypatch.setattr(kind, name, getattr(kind, name))
        haproxy_restart.patch(kind)
        (short_path / "state").touch()
        await api.start()
        yield api
        await api.stop()


async def answers(api: Any) -> None:
    """Returns once a request through it is answered."""
    async with asyncio.timeout(20):
        while True:
            try:
                if (await exchange(api.cfg.frontend_port, get())).endswith(b"ok"):
                    return
            except OSError:
                pass
            await asyncio.sleep(0.02)


async def test_what_is_killed_is_started_again_and_still_reloads(api: Any) -> None:
    first = api._proc
    for _ in range(2):
        killed = api._proc
        os.kill(killed.pid, signal.SIGKILL)
        await killed.wait()
        await answers(api)
        async with asyncio.timeout(20):
            while api._proc is killed:
                await asyncio.sleep(0.02)
    await api.reload()
    await answers(api)
    assert api._proc is not first and await api.is_running()


async def test_what_dies_as_it_is_reloaded_is_started_again(api: Any) -> None:
    os.kill(api._proc.pid, signal.SIGKILL)
    await asyncio.gather(api.reload(), return_exceptions=True)
    await answers(api)


async def test_what_is_stopped_stays_so(api: Any) -> None:
    await api.reload()
    await api.stop()
    await asyncio.sleep(0.3)
    assert api.count_haproxy_processes() == 0


def test_serves_modules_are_patched_when_a_worker_imports_them_and_not_before() -> None:
    script = (
        "import sys, serve_app.compat.preload\n"
        "assert not any(name.startswith('ray') for name in sys.modules)\n"
        "from ray.serve._private.haproxy import HAProxyApi\n"
        "from ray.serve._private.application_state import ApplicationState\n"
        "print(HAProxyApi.stop.__module__, ApplicationState.target_deployments.fget.__module__)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [haproxy_restart.__name__, build_keeps_serving.__name__]
