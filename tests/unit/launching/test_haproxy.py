"""Serve's own HAProxy configuration as this service has it, by what a real HAProxy does with it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from serve_app.launching import haproxy_config
from serve_app.launching.haproxy import AMENDED
from serve_app.launching.haproxy_config import amend
from tests.support.haproxy import exchange, get, haproxy_api, server


@asynccontextmanager
async def door(folder: Path, backend: int | None) -> AsyncIterator[int]:
    """Its port, once it answers."""
    api = haproxy_api(folder, backend)
    (folder / "state").touch()
    command = [sys.executable, "-m", "serve_app.launching.haproxy", "-db", "-dR", "-f", api.config_file_path]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(20):
            while b"200 OK" not in await _answered(api.cfg.frontend_port, "/-/healthz" if backend else "/"):
                assert process.returncode is None, (await process.communicate())[1]
                await asyncio.sleep(0.05)
                if backend is None and await _answered(api.cfg.frontend_port, "/"):
                    break
        yield api.cfg.frontend_port
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.communicate()


async def _answered(port: int, path: str) -> bytes:
    try:
        return await exchange(port, get(path))
    except OSError:
        return b""


def error(answer: bytes) -> tuple[int, dict]:
    """Status and OpenAI's error."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    return int(head.split()[1]), json.loads(body)["error"]


@pytest.mark.parametrize(
    "headers", [[b"x: " + b"a" * 60_000], [b"x%d: 1" % number for number in range(250)]], ids=["60 kB", "250 of them"]
)
async def test_headers_that_vllm_takes_come_through(short_path: Path, headers: list[bytes]) -> None:
    async with server() as (port, heads), door(short_path, port) as public:
        assert (await exchange(public, get("/x", *headers))).endswith(b"ok")
        assert headers[-1] in heads[-1]


@pytest.mark.parametrize(
    "headers",
    [[b"x: " + b"a" * 66_000], [b"x: " + b"a" * 250_000], [b"x%d: 1" % number for number in range(4000)]],
    ids=["66 kB", "250 kB", "4000 of them"],
)
async def test_more_headers_are_refused_in_openais_schema(short_path: Path, headers: list[bytes]) -> None:
    async with server() as (port, heads), door(short_path, port) as public:
        status, told = error(await exchange(public, get("/x", *headers)))
        assert (status, told["code"], told["type"]) == (431, "headers_too_large", "invalid_request_error")
        assert not [head for head in heads if head.startswith(b"GET /x")]


async def test_routes_are_nobodys_business_and_the_probe_stays(short_path: Path) -> None:
    async with server() as (port, _), door(short_path, port) as public:
        for path in ("/-/routes", "/-/ROUTES", "/-/routes?x"):
            assert error(await exchange(public, get(path)))[0] == 404
        assert b" 200 " in await exchange(public, get("/-/healthz"))


async def test_an_ingress_that_is_gone_and_one_that_is_to_come_are_503_with_retry_after(short_path: Path) -> None:
    for backend, code in ((True, "ingress_not_ready"), (False, "starting")):
        (folder := short_path / code).mkdir()
        async with server() as (port, _):
            gone = door(folder, port if backend else None)
            public = await gone.__aenter__()
        answer = await exchange(public, get())
        await gone.__aexit__(None, None, None)
        status, told = error(answer)
        assert (status, told["code"]) == (503, code) and b"retry-after: " in answer.lower()


async def test_what_would_steer_serve_does_not_come_through(short_path: Path) -> None:
    headers = [b"X-Request-Timeout-Seconds: 0.001", b"x-request-id: mine", b"x-other: \xff"]
    async with server() as (port, heads), door(short_path, port) as public:
        assert (await exchange(public, get("/x", *headers))).endswith(b"ok")
        assert b"x-other: \xff" in heads[-1] and b"x-request-id: mine" in heads[-1] and b"timeout" not in heads[-1]


async def test_every_answer_has_the_id_of_its_request(short_path: Path) -> None:
    async with server() as (port, heads), door(short_path, port) as public:
        for path in ("/x", "/-/routes"):
            assert b"\r\nx-request-id: mine\r\n" in await exchange(public, get(path, b"x-request-id: mine"))
            new = re.search(rb"\r\nx-request-id: ([0-9a-f-]{36})\r\n", await exchange(public, get(path)))
            assert new and (path != "/x" or new[0] in heads[-1])
        refused = await exchange(public, get("/x", b"x: " + b"a" * 66_000))
    assert b" 431 " in refused and b"\r\nx-request-id: " in refused


@pytest.mark.parametrize(
    ("framing", "body"),
    [(b"transfer-encoding: chunked", b"2\r\n{ \r\n"), (b"content-length: 70000", b"{"), (b"content-length: 2", b"{}")],
    ids=["chunked", "long", "short"],
)
async def test_a_client_whose_upload_is_refused_is_told_that_its_connection_ends(
    short_path: Path, framing: bytes, body: bytes
) -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno"
    async with server(refusal) as (port, _), door(short_path, port) as public:
        reader, writer = await asyncio.open_connection("127.0.0.1", public)
        writer.write(b"POST /x HTTP/1.1\r\nhost: a\r\n" + framing + b"\r\n\r\n" + body)
        async with asyncio.timeout(20):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
        writer.close()
    assert head.startswith(b"http/1.1 413") and (b"connection: close" in head) == (body != b"{}")


async def test_who_says_nothing_is_let_go_and_who_waits_is_not(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(haproxy_config, "HEAD_TIMEOUT_S", 1)
    monkeypatch.setattr(haproxy_config, "STUCK_TIMEOUT_S", 1)

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
        await asyncio.sleep(3)
        writer.write(b"1\r\nb\r\n0\r\n\r\n")

    slow = await asyncio.start_server(late, "127.0.0.1", 0)
    api = haproxy_api(short_path, slow.sockets[0].getsockname()[1])
    config = Path(api.config_file_path)
    config.write_text(AMENDED + amend(config.read_text(), {}))
    (short_path / "state").touch()
    command = [sys.executable, "-m", "serve_app.launching.haproxy", "-db", "-dR", "-f", str(config)]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    try:
        public = api.cfg.frontend_port
        while not await _answered(public, "/-/routes"):
            await asyncio.sleep(0.05)
        waiting, *quiet = await asyncio.gather(
            exchange(public, get()), *(exchange(public, data) for data in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nx: "))
        )
        assert waiting.endswith(b"0\r\n\r\n")
        assert all(b" 200 " not in answer for answer in quiet)
    finally:
        process.kill()
        await process.wait()
        slow.close()


async def test_one_that_a_killed_manager_left_gives_way_to_the_next(short_path: Path) -> None:
    async with server() as (port, _):
        api = haproxy_api(short_path, port)
        (short_path / "state").touch()
        command = [sys.executable, "-m", "serve_app.launching.haproxy", "-db", "-dR", "-f", api.config_file_path]
        started = []
        try:
            for _ in range(2):
                api._generate_config_file_internal()
                started.append(await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL))
                async with asyncio.timeout(20):
                    while await api._get_running_pid() != started[-1].pid:
                        await asyncio.sleep(0.05)
            async with asyncio.timeout(20):
                await started[0].wait()
            assert (await exchange(api.cfg.frontend_port, get())).endswith(b"ok") and started[1].returncode is None
        finally:
            for process in started:
                if process.returncode is None:
                    process.kill()
                await process.wait()


def test_what_the_user_sets_of_serves_stays_and_nothing_else_listens_beyond_this_machine(short_path: Path) -> None:
    api = haproxy_api(short_path, 1, host="0.0.0.0")
    text = Path(api.config_file_path).read_text()
    given = {"RAY_SERVE_HAPROXY_MAXCONN": "77", "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "7"}
    amended = amend(text, given)
    assert "maxconn 77\n" in amended and "timeout client 7s" in amended
    binds = [line.split()[1] for line in amended.splitlines() if line.split()[:1] == ["bind"]]
    assert sorted(bind.rpartition(":")[0] for bind in binds) == ["*", "127.0.0.1", "127.0.0.1"]


def test_a_template_that_has_changed_is_an_error_that_says_what(short_path: Path) -> None:
    text = Path(haproxy_api(short_path, 1).config_file_path).read_text()
    with pytest.raises(ValueError, match="/-/routes"):
        amend(text.replace("if routes", "if paths"), os.environ)
