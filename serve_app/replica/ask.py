"""Asking one replica, or another process of the ingress, for one of its own pages."""

from __future__ import annotations

import aiohttp

from serve_app.replica.protocol import TOKEN_HEADER, ReplicaInfo

TIMEOUT_S = 5.0


async def ask(session: aiohttp.ClientSession, server: ReplicaInfo, path: str) -> bytes | None:
    """The page's body; None when the server does not answer it with 200 in time."""
    headers = {TOKEN_HEADER.decode(): server.token}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with session.get(server.url + path, headers=headers, timeout=timeout) as response:
            return await response.read() if response.status == 200 else None
    except (TimeoutError, aiohttp.ClientError, OSError):
        return None
