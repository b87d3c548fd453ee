"""The replica's own HTTP server: uvicorn on the node's address, with admission control around the application."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import uvicorn
from prometheus_client.registry import Collector
from starlette.types import ASGIApp

from serve_app.replica.admission import AdmissionControl
from serve_app.replica.ledger import Ledger
from serve_app.replica.sleep import SleepControl

KEEP_ALIVE_S = 120
"""Above the ingress's own keep-alive, so that the client side closes idle connections first."""


class ReplicaServer:
    """Serves one replica's application over HTTP."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str,
        capacity: int,
        failure: Callable[[], str | None],
        sleep: SleepControl | None = None,
        ledger: Ledger | None = None,
        counts: Sequence[Collector] = (),
        pages: Mapping[str, ASGIApp] = MappingProxyType({}),
    ) -> None:
        """`token` is the secret that every request must carry, `capacity` the sequences it holds, running and queued.

        `failure` says why the engine behind the application is dead, or None; `sleep` is of a replica that can,
        `ledger` of one that accounts for what it makes, `counts` are further metrics of its own, `pages`
        further pages, by path.
        """
        self.admission = AdmissionControl(app, token, capacity, failure, sleep, ledger, counts, pages)
        config = uvicorn.Config(
            self.admission,
            http="httptools",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=1,
        )
        self._uvicorn = _QuietServer(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: str) -> str:
        """Listen on a free port of the address `host`; the base URL. Raises RuntimeError where that fails."""
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.bind((host, 0))
        port = listener.getsockname()[1]
        self._task = asyncio.create_task(self._uvicorn.serve(sockets=[listener]))
        while not self._uvicorn.started:
            if self._task.done():
                self._task.result()
                raise RuntimeError("the replica's HTTP server ended while it was starting; see its log")
            await asyncio.sleep(0.01)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def stop(self) -> None:
        """Close the listener and what is still open."""
        self._uvicorn.should_exit = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)


class _QuietServer(uvicorn.Server):
    """Leaves the process's signal handlers to Ray."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
