"""Connections that are open and say nothing, as keep-alive clients and stray ones hold them by the thousand."""

from __future__ import annotations

import socket
import time
from types import TracebackType
from urllib.parse import urlsplit

from serve_app.planning.open_files import raise_to_hard_limit

CONNECT_TIMEOUT_S = 30.0
AT_ONCE = 100
"""Opened without a pause: less than a listener's backlog, which others share."""
PAUSE_S = 0.05


class IdleConnections:
    """So many connections to a service, open between `with` and its end. Raises OSError where it takes no more."""

    def __init__(self, url: str, count: int) -> None:
        at = urlsplit(url)
        self._address = (at.hostname, at.port)
        self._count = count
        self._open: list[socket.socket] = []

    def __enter__(self) -> IdleConnections:
        raise_to_hard_limit()
        try:
            for number in range(self._count):
                self._open.append(socket.create_connection(self._address, CONNECT_TIMEOUT_S))
                if number % AT_ONCE == AT_ONCE - 1:
                    time.sleep(PAUSE_S)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        for one in self._open:
            one.close()
        self._open.clear()
