"""Asking one replica, or another process of the ingress, for one of its own pages, or to do something."""

from __future__ import annotations

import aiohttp

from serve_app.replica.protocol import TOKEN_HEADER, ReplicaInfo

TIMEOUT_S = 5.0
TELL_TIMEOUT_S = 60.0
"""What a replica is told to do may take longer than a page: waking, with the weights of a large model to move."""


async def ask(session: aiohttp.ClientSession, server: ReplicaInfo, path: str) -> bytes | None:
    """The page's body; None when the server does not answer it with 200 in time."""
    return await _request(session, "GET", server, path, TIMEOUT_S)


async def tell(session: aiohttp.ClientSession, server: ReplicaInfo, path: str) -> bool:
    """Have it do something; whether it says in time that it has."""
    return await _request(session, "POST", server, path, TELL_TIMEOUT_S) is not None


async def _request(
    session: aiohttp.ClientSession, method: str, server: ReplicaInfo, path: str, timeout_s: float
) -> bytes | None:
    headers = {TOKEN_HEADER.decode(): server.token}
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with session.request(method, server.url + path, headers=headers, timeout=timeout) as response:
            return await response.read() if response.status == 200 else None
    except (TimeoutError, aiohttp.ClientError, OSError):
        return None
