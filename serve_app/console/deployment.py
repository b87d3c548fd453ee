"""The console's deployment: one process of low priority, behind an HTTP server of its own.

It holds nothing that the service needs. While it is gone, `/console` is 503 and all else goes on.
"""

from __future__ import annotations

import asyncio
import os
from itertools import chain

import aiohttp
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from serve_app.compat.deployment_version import with_version
from serve_app.config import names
from serve_app.config.schema import ServiceConfig
from serve_app.console.assets import Assets
from serve_app.console.gpus import GpusPage
from serve_app.console.live import LivePage
from serve_app.console.load_test import LoadTestPage
from serve_app.console.models import ModelsPage
from serve_app.console.sampler import Sampler
from serve_app.http.pages import starlette_app
from serve_app.logs import start as logs
from serve_app.logs.names import ProcessName
from serve_app.planning.parts import for_console
from serve_app.replica.http_replica import HttpReplica
from serve_app.replica.serve_options import HEALTH_PERIOD_S, NO_LIMIT, POLL_S
from serve_app.routing import registry
from serve_app.routing.discovery import listened_to
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits

CAPACITY = 64
"""Changes at the same time; pages do not count."""
NICENESS = 10
"""Where cores are short, requests go first."""
LIMITS = QueueLimits(max_waiting=0, wait_timeout_s=1.0, start_timeout_s=1.0)
"""It sends no requests to models."""
SHUTDOWN_S = 2.0


class ConsoleReplica(HttpReplica):
    """What Ray Serve runs once."""

    async def __init__(  # type: ignore[misc]
        self, config: ServiceConfig, engines: dict[str, DeploymentHandle]
    ) -> None:
        # Linux has a niceness for each thread, and Ray's threads are there already.
        for thread in os.listdir("/proc/self/task"):
            os.setpriority(os.PRIO_PROCESS, int(thread), NICENESS)
        context = serve.get_replica_context()
        logs.start(config.logging, ProcessName("console", context.app_name, context.replica_id.unique_id))
        self._session = aiohttp.ClientSession()
        pools = [ReplicaPool(model.id, LIMITS) for model in config.models]
        self._handles = [registry.listen(engines[pool.model], pool) for pool in pools]
        self._sampler = Sampler(context.app_name, pools, self._session)
        self._load_test = LoadTestPage()
        routes = (
            ModelsPage(config.models, pools).routes(),
            LivePage(config.models, pools, self._sampler).routes(),
            GpusPage(pools, self._session).routes(),
            self._load_test.routes(),
            Assets().routes(),
        )
        app: ASGIApp = starlette_app(list(chain.from_iterable(routes)))
        app = logs.of_requests(config.logging, app)
        await self.listen(app, model=names.CONSOLE_POOL, capacity=CAPACITY, max_running=CAPACITY)
        self._sampling = asyncio.create_task(self._sampler.follow())

    async def __del__(self) -> None:
        """Serve awaits this when the replica leaves."""
        if hasattr(self, "_sampling"):
            self._sampling.cancel()
            await self._load_test.end()
            await self.close(0)
            await self._session.close()


def console_application(config: ServiceConfig, engines: dict[str, serve.Application]) -> serve.Application | None:
    """The Ray Serve deployment of the console, unless the configuration switches it off. `engines` are the models'
    deployments by id."""
    if not config.ingress.console:
        return None
    deployment = serve.deployment(
        ConsoleReplica,
        name=names.CONSOLE,
        # It takes what others leave.
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=NO_LIMIT,
        health_check_period_s=HEALTH_PERIOD_S,
        graceful_shutdown_timeout_s=SHUTDOWN_S,
        graceful_shutdown_wait_loop_s=POLL_S,
        request_router_config=listened_to(names.CONSOLE_POOL),
    )
    part = for_console(config)
    return with_version(deployment, part.model_dump_json()).bind(part, engines)
