"""All processes of the ingress, and what each of them has counted: one view of /metrics, whichever process is asked.

A request meets one ingress process, and so does a scrape. Each process therefore serves its own counts to the others
on the node's address, to who knows its token, and says where in the cluster's key-value store, which they all reach. A
scrape asks every process at that moment; between scrapes this costs one small write each ANNOUNCE_S.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry, Gauge
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from serve_app.compat import kv_store
from serve_app.http.pages import starlette_app
from serve_app.ingress.scrapes import Part, Scrapes
from serve_app.replica.admission import METRICS, METRICS_PART
from serve_app.replica.exposition import CONTENT_TYPE, join, own, part
from serve_app.replica.protocol import ReplicaInfo
from serve_app.replica.server import ReplicaServer

PREFIX = "ingress"
ANNOUNCE_S = 10.0
"""How often a process says where it is: one that was given up by mistake is back after so long."""
GIVEN_UP_S = 60.0
"""A process that cannot be reached for so long is gone."""
STORE_S = 2.0
"""For the key-value store to answer."""
SCRAPES = 64
"""Scrapes at the same time; each is a GET, which the server's bound does not count."""
LABEL = "ingress"
"""Tells the processes' samples apart."""

logger = logging.getLogger("ray.serve")


class IngressProcesses:
    """This process of the ingress among the others of its application."""

    def __init__(
        self,
        me: tuple[str, str],
        registry: CollectorRegistry,
        session: aiohttp.ClientSession,
        processes: Callable[[], int],
    ) -> None:
        """`me` is this process's application and id, `processes` how many there are to be at present."""
        app, self._id = me
        self._key = f"{PREFIX}/{app}/"
        self._processes = processes
        self._registry = registry
        self._scrapes = Scrapes(session, f"{METRICS_PART}?{LABEL}=")
        token = secrets.token_urlsafe(32)
        self._server = ReplicaServer(
            starlette_app([Route(METRICS, self._page)]), token=token, capacity=SCRAPES, failure=lambda: None
        )
        self._info = ReplicaInfo(
            model=PREFIX,
            url="",
            token=token,
            capacity=SCRAPES,
            max_running=SCRAPES,
            max_model_len=0,
            created=int(time.time()),
        )
        self._announcing: asyncio.Task[None] | None = None
        self._known: dict[str, ReplicaInfo] = {}
        """The others as of the last scrape."""
        self._missed_since: dict[str, float] = {}
        """Those that could not be reached, and since when, on this process's own clock."""

    async def start(self, host: str) -> None:
        """Listen on a free port of `host`, and be known to the others from then on."""
        url = await self._server.start(host)
        self._info = ReplicaInfo.from_dict(self._info.to_dict() | {"url": url})
        await self._announce()
        self._announcing = asyncio.create_task(self._announce_again())

    async def stop(self) -> None:
        """Not be known any more."""
        if self._announcing is not None:
            self._announcing.cancel()
            await asyncio.gather(self._announcing, return_exceptions=True)
            await self._store(kv_store.erase, self._key + self._id)
        await self._server.stop()

    async def page(self) -> bytes:
        """What every process has counted, told apart by LABEL; without it where there is one process."""
        if self._processes() < 2:
            return own(self._registry).encode()
        parts = await self.parts()
        return join(one.text for one in parts.values() if one) + _up(parts)

    async def parts(self) -> dict[str, Part | None]:
        """Of every process by its id, this one among them; None of one that could not be reached."""
        written = await self._store(kv_store.read_all, self._key)
        if written is not None:
            found = {key.removeprefix(self._key): ReplicaInfo.from_dict(fact) for key, fact in written.items()}
            self._known = {id: info for id, info in found.items() if id != self._id}
        parts = await self._scrapes.collect(self._known)
        mine = part(own(self._registry), LABEL, self._id).encode()
        await self._give_up(parts)
        return dict(sorted({**parts, self._id: Part(mine, fresh=True)}.items()))

    async def _give_up(self, parts: dict[str, Part | None]) -> None:
        """Forget those that have been out of reach for GIVEN_UP_S."""
        now = time.monotonic()
        self._missed_since = {id: self._missed_since.get(id, now) for id, one in parts.items() if one is None}
        for id, since in self._missed_since.items():
            if now - since > GIVEN_UP_S:
                del parts[id]
                await self._store(kv_store.erase, self._key + id)

    async def _page(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse(own(self._registry), media_type=CONTENT_TYPE)

    async def _announce(self) -> None:
        await self._store(kv_store.write, self._key + self._id, self._info.to_dict())

    async def _announce_again(self) -> None:
        while True:
            await asyncio.sleep(ANNOUNCE_S)
            await self._announce()

    async def _store(self, use: Any, *args: Any) -> Any:
        """A call of the key-value store; None where it does not answer in time."""
        try:
            return await asyncio.wait_for(asyncio.to_thread(use, *args), STORE_S)
        except Exception as error:
            logger.warning("the ingress's processes cannot tell each other where they are: %r", error)
            return None


def _up(parts: dict[str, Part | None]) -> bytes:
    registry = CollectorRegistry()
    up = Gauge(
        "serve_app_ingress_up",
        "Whether an ingress process answered this scrape; what it counts is old or missing where not.",
        (LABEL,),
        registry=registry,
    )
    for id, one in parts.items():
        up.labels(id).set(one is not None and one.fresh)
    return own(registry).encode()
