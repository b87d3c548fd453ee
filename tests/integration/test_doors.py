"""What stands before the ingress: connections, slow clients, HAProxy's own death."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serve_app.planning.open_files import raise_to_hard_limit
from tests.support.service import Service

IDLE = 4_500
"""More than Ray Serve's HAProxy takes on its own."""
BODY = json.dumps({"model": "pair", "prompt": "a", "max_tokens": 4}).encode()
HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
WHOLE = HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)


@pytest.fixture
def many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_to_hard_limit()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def opened(simulated: Service, data: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    url = httpx.URL(simulated.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(data)
    return reader, writer


async def answer(simulated: Service, data: bytes) -> tuple[int, dict]:
    """Status and JSON of what comes back, whose length is told."""
    reader, writer = await opened(simulated, data)
    async with asyncio.timeout(60):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
    writer.close()
    return int(head.split()[1]), json.loads(body)


async def test_a_body_that_stays_away_is_refused_and_idle_connections_are_closed(simulated: Service) -> None:
    held = HEAD + b"content-length: 3000000\r\n\r\n{" + b" " * 2_000_000
    idle, kept, slow = await asyncio.gather(
        opened(simulated), opened(simulated, WHOLE.replace(b"connection: close\r\n", b"")), answer(simulated, held)
    )
    assert slow[0] == 408 and slow[1]["error"]["code"] == "request_timeout"
    for reader, writer in (idle, kept):
        async with asyncio.timeout(60):
            await reader.read()
        writer.close()


@pytest.mark.usefixtures("many_files")
async def test_more_idle_connections_than_serve_would_take_leave_room_for_requests(simulated: Service) -> None:
    possible = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500
    connections = [await opened(simulated) for _ in range(min(IDLE, possible))]
    try:
        assert (await answer(simulated, WHOLE))[0] == 200
    finally:
        for _, writer in connections:
            writer.close()


async def test_large_headers_pass_and_larger_ones_are_refused_in_the_schema(simulated: Service) -> None:
    async with httpx.AsyncClient(base_url=simulated.url) as http:
        assert (await http.get("/ready", headers={"x": "a" * 60_000})).status_code == 200
        refused = await http.get("/ready", headers={"x": "a" * 100_000})
        routes = await http.get("/-/routes")
    assert (refused.status_code, refused.json()["error"]["code"]) == (431, "headers_too_large")
    assert (routes.status_code, routes.json()["error"]["code"]) == (404, "path_not_found")


async def test_a_killed_haproxy_is_back_long_before_serve_would_replace_it(simulated: Service) -> None:
    os.kill(haproxy(simulated), signal.SIGKILL)
    async with asyncio.timeout(15):
        while True:
            with contextlib.suppress(OSError, EOFError):
                if (await answer(simulated, WHOLE))[0] == 200:
                    break
            await asyncio.sleep(0.05)
    assert haproxy(simulated)


def haproxy(simulated: Service) -> int:
    """The process that listens where the service does."""
    bind = f"bind {httpx.URL(simulated.url).netloc.decode()}\n"
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes().decode().split("\0") if entry.name.isdigit() else []
            config = next((word for word in command if word.endswith("haproxy.cfg")), None)
            if config and bind in Path(config).read_text():
                return int(entry.name)
    raise LookupError(f"no HAProxy has {bind}")
