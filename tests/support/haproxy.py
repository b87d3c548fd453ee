"""HAProxy as Ray Serve configures it, without a cluster, before a server of bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from serve_app.launching.environment import free_ports

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def haproxy_api(folder: Path, backend: int | None, host: str = "127.0.0.1") -> HAProxyApi:
    """Serve's own manager of a HAProxy that listens on a free port and passes all on to the port `backend`."""
    port, metrics, stats = free_ports(3)
    config = HAProxyConfig(
        http_options=HTTPOptions(host=host, port=port),
        is_head=True,
        metrics_port=metrics,
        stats_port=stats,
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
        metrics_socket_path=str(folder / "metrics.sock"),
    )
    api = HAProxyApi(config, config_file_path=str(folder / "haproxy.cfg"))
    if backend is not None:
        servers = [ServerConfig("one", "127.0.0.1", backend)]
        api.set_backend_configs({"app": BackendConfig("app", "/", app_name="app", servers=servers)})
    api._generate_config_file_internal()
    return api


@contextlib.asynccontextmanager
async def server(posted: bytes = OK) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers OK, and `posted` to a POST, once the head is there; its port, and the heads it has read."""
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(posted if heads[-1].startswith(b"POST") else OK)
                await writer.drain()
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0, limit=2**20)
    yield listening.sockets[0].getsockname()[1], heads
    listening.close()


async def exchange(port: int, data: bytes) -> bytes:
    """What comes back until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


def get(path: str = "/x", *headers: bytes) -> bytes:
    """A request for `path` on a connection of its own."""
    lines = [b"GET %b HTTP/1.1" % path.encode(), b"host: a", b"connection: close", *headers, b"", b""]
    return b"\r\n".join(lines)
