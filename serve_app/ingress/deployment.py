"""The ingress deployment: composes the ingress application and starts listening for replicas."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import aiohttp
import ray.util
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from serve_app.accounts.audit import AuditLog
from serve_app.accounts.limiter import Limiter
from serve_app.accounts.sharing import Sharing
from serve_app.accounts.usage import UsageBook, keep
from serve_app.autoscaling import coming, queued
from serve_app.compat.body_queue import bound_queues
from serve_app.compat.deployment_version import with_version
from serve_app.compat.request_headers import refuse_unreadable
from serve_app.config import names
from serve_app.config.schema import ServiceConfig
from serve_app.ingress.adapters import AdapterPages
from serve_app.ingress.authentication import Authentication
from serve_app.ingress.batches import BatchApi
from serve_app.ingress.body import BodyReader
from serve_app.ingress.console import ConsoleRoutes
from serve_app.ingress.cors import for_origins
from serve_app.ingress.docs import Docs
from serve_app.ingress.failing import Failing
from serve_app.ingress.frozen import FrozenReplicas
from serve_app.ingress.keyring import Keyring
from serve_app.ingress.metrics_pages import MetricsPages
from serve_app.ingress.models import Models
from serve_app.ingress.processes import IngressProcesses
from serve_app.ingress.rollout import Rollout
from serve_app.ingress.routes import IngressApp
from serve_app.ingress.scaling import Scaling
from serve_app.ingress.status import Status
from serve_app.ingress.unoffered import Unoffered
from serve_app.ingress.usage import UsagePage
from serve_app.ingress.wanted import Wanted
from serve_app.logs import start as logs
from serve_app.logs.names import ProcessName
from serve_app.planning.open_files import raise_to_hard_limit
from serve_app.planning.parts import for_router
from serve_app.replica.serve_options import NO_LIMIT, POLL_S, SHUTDOWN_MARGIN_S
from serve_app.routing import registry
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from serve_app.routing.router import Router
from serve_app.tracing.start import start

KEEP_ALIVE_S = 30
SLOW_PROXY = (
    "requests come through Ray Serve's Python proxy, which cannot carry many streams: "
    "start the cluster with RAY_SERVE_ENABLE_HA_PROXY=1"
)

logger = logging.getLogger("ray.serve")


class IngressReplica:
    """What Ray Serve runs once per ingress process."""

    async def __init__(  # type: ignore[misc]
        self,
        config: ServiceConfig,
        engines: dict[str, DeploymentHandle],
        batch: DeploymentHandle | None,
        console: DeploymentHandle | None,
    ) -> None:
        self._config = config
        context = serve.get_replica_context()
        process = ProcessName("ingress", context.app_name, context.replica_id.unique_id)
        logs.start(config.logging, process)
        if os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") != "1":
            logger.warning(SLOW_PROXY)
        bound_queues()
        refuse_unreadable()
        raise_to_hard_limit()
        ingress = config.ingress
        self._keyring = Keyring(ingress.api_keys, ingress.keys)
        limits = QueueLimits(ingress.max_waiting, ingress.wait_timeout_s, ingress.start_timeout_s, ingress.replicas)
        self._router = Router.of_deployments(config.models, engines, limits, ingress.continue_bytes)
        await self._router.adapters.look()
        self._batches: ReplicaPool | None = None
        if batch is not None:
            self._batches = ReplicaPool(names.BATCH_POOL, limits)
            self._batch_handle = registry.listen(batch, self._batches)
        self._console: ReplicaPool | None = None
        if console is not None:
            self._console = ReplicaPool(names.CONSOLE_POOL, limits)
            self._console_handle = registry.listen(console, self._console)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S))
        self._processes = IngressProcesses(
            (context.app_name, context.replica_tag), self._router.metrics.registry, self._session, _wanted
        )
        await self._processes.start(ray.util.get_node_ip_address())
        self._rollout = Rollout(context.app_name)
        self._tracing = start(config.tracing, process)
        if self._tracing is not None:
            self._tracing.of_router(self._router)
        self._router.on_frozen = FrozenReplicas(context.app_name).found
        self._failing = Failing(context.app_name, [one.id for one in config.models], self._rollout.settled)
        wanted = Wanted(context.app_name, config.models)
        for collector in (self._failing, wanted):
            self._router.metrics.registry.register(collector)
        self._limiter = Limiter(ingress.keys, _wanted)
        sharing = Sharing(self._limiter, context.app_name)
        await sharing.start()
        self._book = UsageBook(Path(ingress.usage.directory).expanduser()) if ingress.usage else None
        self._background = [
            asyncio.create_task(queued.report("ingress", self._router.waiting, self._router.refused)),
            asyncio.create_task(coming.follow(self._router.catalogue, context.app_name, self._session)),
            asyncio.create_task(self._failing.watch()),
            asyncio.create_task(wanted.watch()),
            asyncio.create_task(self._rollout.watch()),
            asyncio.create_task(self._keyring.follow()),
            asyncio.create_task(sharing.follow()),
        ]
        self._audit: AuditLog | None = None
        if self._book is not None:
            self._background.append(asyncio.create_task(keep(self._book, context.app_name)))
        if ingress.usage is not None and ingress.usage.audit:
            self._audit = AuditLog(Path(ingress.usage.directory).expanduser(), context.replica_id.unique_id)
            self._background.append(asyncio.create_task(self._audit.follow()))

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """Serve calls this once, on the loop that will serve."""
        session, metrics, catalogue = self._session, self._router.metrics, self._router.catalogue
        settings = self._config.ingress
        max_file_mib = self._config.batch.max_file_mib if self._config.batch else 0.0
        keys = Authentication(self._keyring)
        app = IngressApp(
            self._router,
            keys,
            [
                Models(catalogue),
                AdapterPages(catalogue, self._router.adapters, session),
                Status(catalogue, self._failing, self._rollout, keys),
                MetricsPages(catalogue, metrics, session, self._batches, self._processes),
                Scaling(catalogue, serve.get_replica_context().app_name, self._failing),
                BatchApi(self._batches, session, int(max_file_mib * 2**20)),
                UsagePage(self._book),
                ConsoleRoutes(self._console, session),
                Docs(catalogue, session, batches=self._batches is not None, keys=bool(self._keyring)),
                Unoffered(),
            ],
            BodyReader(int(settings.max_body_mib * 2**20), int(settings.max_buffered_mib * 2**20)),
            self._limiter,
            self._audit,
        )
        return logs.of_requests(self._config.logging, for_origins(app, self._config.ingress.cors))

    async def __del__(self) -> None:
        """Serve awaits this when the process leaves."""
        if (processes := getattr(self, "_processes", None)) is not None:
            await processes.stop()
        if (audit := getattr(self, "_audit", None)) is not None:
            await asyncio.to_thread(audit.close)
        if (tracing := getattr(self, "_tracing", None)) is not None:
            await asyncio.to_thread(tracing.close)


def _wanted() -> int:
    """Processes this deployment is to have at present."""
    return serve.get_replica_context().world_size


def ingress_application(
    config: ServiceConfig,
    engines: dict[str, serve.Application],
    batch: serve.Application | None,
    console: serve.Application | None,
) -> serve.Application:
    """The Ray Serve deployment of the public face.

    `engines` are the models' deployments by id, `batch` is that of the Batch API and `console` that of the
    console, if the service has one. It is deployed anew when what it uses of the configuration changes.
    """
    deployment = serve.deployment(
        serve.ingress()(IngressReplica),
        name=names.INGRESS,
        num_replicas=config.ingress.replicas,
        max_ongoing_requests=NO_LIMIT,
        # It carries the streams of every model: Serve's own 20 s would cut those that a redeploy finds open.
        graceful_shutdown_timeout_s=config.longest_drain_s + SHUTDOWN_MARGIN_S,
        graceful_shutdown_wait_loop_s=POLL_S,
        # New ones start before old ones stop, or nobody would be served while a stream goes on at the old.
        max_surge_percent=100,
        # A line a request costs the ingress a fifth of what the request itself does; its metrics count them all.
        logging_config={"enable_access_log": False},
        ray_actor_options={
            "num_cpus": config.ingress.cpus,
            # One loop for Serve and the application: each byte would otherwise cross a thread.
            "runtime_env": {"env_vars": {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0"}},
        },
    )
    part = for_router(config)
    return with_version(deployment, part.model_dump_json()).bind(part, engines, batch, console)
