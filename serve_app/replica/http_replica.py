"""What every replica of this service does that is reached over an HTTP server of its own, beside Ray Serve's routing.

It listens on its node's address with a secret token, tells Ray Serve where and who it is, says again and again how busy
it is, and finishes what it has before it leaves.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import ray.util
from prometheus_client.registry import Collector
from starlette.types import ASGIApp

from serve_app.planning.open_files import raise_to_hard_limit
from serve_app.replica.ledger import Ledger
from serve_app.replica.protocol import ReplicaInfo, ReplicaLoad
from serve_app.replica.server import ReplicaServer
from serve_app.replica.sleep import SleepControl


def _never_fails() -> str | None:
    return None


class HttpReplica:
    """The base class of the engine's and the batch deployment's replicas.

    Ray Serve finds its hooks by their names: `record_replica_metadata` and `record_routing_stats`.
    """

    _server: ReplicaServer | None = None
    _info: ReplicaInfo
    _sleep: SleepControl | None = None

    async def listen(
        self,
        app: ASGIApp,
        *,
        model: str,
        capacity: int,
        max_running: int,
        max_model_len: int = 0,
        max_adapters: int = 0,
        versions: dict[str, str] | None = None,
        failure: Callable[[], str | None] = _never_fails,
        sleep: SleepControl | None = None,
        ledger: Ledger | None = None,
        counts: Sequence[Collector] = (),
        pages: Mapping[str, ASGIApp] = MappingProxyType({}),
    ) -> None:
        """Serve `app` on a free port, and be known to the pool `model` from then on.

        The figures are those of ReplicaInfo; `failure` says why the replica can serve no longer, or None; `sleep` is of
        one that can sleep, `ledger` of one that accounts for what it makes, `counts` are further metrics of its own,
        `pages` further pages, by path.
        """
        raise_to_hard_limit()
        token = secrets.token_urlsafe(32)
        self._sleep = sleep
        self._server = ReplicaServer(
            app,
            token=token,
            capacity=capacity,
            failure=failure,
            sleep=sleep,
            ledger=ledger,
            counts=counts,
            pages=pages,
        )
        self._info = ReplicaInfo(
            model=model,
            url=await self._server.start(ray.util.get_node_ip_address()),
            token=token,
            capacity=capacity,
            max_running=max_running,
            max_model_len=max_model_len,
            max_adapters=max_adapters,
            created=int(time.time()),
            versions=versions or {},
        )

    def record_replica_metadata(self) -> dict[str, Any]:
        """Serve's hook, asked once: who and where this replica is, as ReplicaInfo has it."""
        return self._info.to_dict()

    def record_routing_stats(self) -> dict[str, Any]:
        """Serve's hook, asked every REPORT_PERIOD_S: what this replica is doing, as ReplicaLoad has it."""
        return self.load().to_dict()

    def load(self) -> ReplicaLoad:
        """What admission control has counted."""
        assert self._server is not None
        admission = self._server.admission
        return ReplicaLoad(
            in_flight=admission.in_flight,
            interactive=admission.interactive,
            interactive_begun=admission.interactive_begun,
            draining=admission.draining,
            failed=admission.failure() is not None,
            asleep=self._sleep is not None and self._sleep.resting,
        )

    @property
    def accepted(self) -> int:
        """Sequences for the engine that were let in so far."""
        return self._server.admission.accepted if self._server else 0

    async def close(self, drain_s: float) -> int:
        """Refuse new requests, wait up to `drain_s` for the open ones, and close the server.

        Returns the sequences that were cut off; 0 as well where the server was never started.
        """
        if self._server is None:
            return 0
        await self._server.admission.drain(drain_s)
        cut_off = self._server.admission.in_flight
        await self._server.stop()
        return cut_off
