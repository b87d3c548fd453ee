"""The batch deployment: OpenAI's Batch API behind an HTTP server of its own, and the worker behind that.

One replica. All of its state is in its directory, so that whatever ends it, the next one goes on.
"""

from __future__ import annotations

import asyncio

from ray import serve
from ray.serve.handle import DeploymentHandle

from serve_app.accounts.limiter import Limiter
from serve_app.accounts.sharing import Sharing
from serve_app.autoscaling import queued
from serve_app.batch.api.application import BatchApplication, routes_over
from serve_app.batch.api.owners import Owners
from serve_app.batch.api.store import Store
from serve_app.batch.metrics import BatchMetrics
from serve_app.batch.run.pooled import PoolClient
from serve_app.batch.worker import Worker
from serve_app.compat.deployment_version import with_version
from serve_app.config import names
from serve_app.config.keys import UNNAMED, unconfigured
from serve_app.config.schema import ServiceConfig
from serve_app.logs import start as logs
from serve_app.logs.names import ProcessName
from serve_app.planning.parts import for_router
from serve_app.replica.http_replica import HttpReplica
from serve_app.replica.serve_options import HEALTH_PERIOD_S, NO_LIMIT, POLL_S, SHUTDOWN_MARGIN_S
from serve_app.routing.discovery import listened_to
from serve_app.routing.queue import QueueLimits
from serve_app.routing.router import Router
from serve_app.tracing.start import start

CAPACITY = 256
"""Uploads and other changes at the same time."""
LIMITS = QueueLimits(max_waiting=1_000_000, wait_timeout_s=10.0, start_timeout_s=600.0)
"""A batch's requests are bounded by its pace, and wait for a model that is starting longer than a person would."""
OF_REQUESTS = dict.fromkeys(("requests_per_minute", "requests_per_day", "parallel"))
"""A key's limits that lines of batches do not count for."""
DRAIN_S = 20.0
"""For uploads under way when the replica leaves."""


class BatchReplica(HttpReplica):
    """What Ray Serve runs once."""

    async def __init__(  # type: ignore[misc]
        self, config: ServiceConfig, engines: dict[str, DeploymentHandle]
    ) -> None:
        assert config.batch is not None
        self._settings = config.batch
        self._keys = {key.name: key for key in config.ingress.keys}
        # Lines are paced by what engines take, and are no requests of a client's; their tokens are.
        self._limiter = Limiter((key.model_copy(update=OF_REQUESTS) for key in self._keys.values()), lambda: 1)
        self._router = Router.of_deployments(config.models, engines, LIMITS)
        context = serve.get_replica_context()
        process = ProcessName("batch", context.app_name, context.replica_id.unique_id)
        logs.start(config.logging, process)
        self._tracing = start(config.tracing, process)
        if self._tracing is not None:
            self._tracing.of_router(self._router)
        self._application = BatchApplication(self._settings, self._work)
        app = logs.of_requests(config.logging, self._application)
        await self.listen(app, model=names.BATCH_POOL, capacity=CAPACITY, max_running=CAPACITY)
        sharing = Sharing(self._limiter, context.app_name)
        await sharing.start()
        self._watching = asyncio.create_task(sharing.watch())
        await self._application.open()
        self._main = asyncio.create_task(self._application.run())

    def check_health(self) -> None:
        """Serve's hook: raises when nothing works through the batches any more, and Serve replaces the replica."""
        if self._main.done():
            raise RuntimeError("the worker of batches has ended") from self._main.exception()

    async def _work(self, store: Store) -> None:
        """Raises DirectoryUnusable."""
        metrics = BatchMetrics(store)
        if self._tracing is not None:
            metrics.registry.register(self._tracing.counts)
        worker = Worker(store, self._client, self._settings, metrics.lines)
        reporting = asyncio.create_task(queued.report("batch", lambda: self._queued(worker)))
        max_bytes = int(self._settings.max_file_mib * 2**20)
        owners = Owners(self._keys.values())
        self._application.app = routes_over(store, worker.changed, max_bytes, owners, metrics.routes())
        try:
            await worker.run()
        finally:
            reporting.cancel()

    def _queued(self, worker: Worker) -> dict[str, int]:
        """What the autoscaling policy is told: requests that wait for a replica, and those that would come with one."""
        backlog = worker.backlog()
        return {model: waiting + backlog.get(model, 0) for model, waiting in self._router.waiting().items()}

    def _client(self, key: str | None) -> PoolClient:
        """For a batch of the key of this name. One whose key is configured no more goes on, without its limits."""
        owner = UNNAMED if key is None else self._keys.get(key) or unconfigured(key)
        return PoolClient(self._router, owner, self._limiter)

    async def __del__(self) -> None:
        """Serve awaits this when the replica leaves: what is open is dropped, and sent again by the next one."""
        if not hasattr(self, "_main"):
            return
        for task in (self._main, self._watching):
            task.cancel()
        await asyncio.gather(self._main, self._watching, return_exceptions=True)
        await self.close(DRAIN_S)
        await self._application.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)


def batch_application(config: ServiceConfig, engines: dict[str, serve.Application]) -> serve.Application | None:
    """The Ray Serve deployment of OpenAI's Batch API, where the configuration gives it a directory. `engines` are the
    models' deployments by id."""
    if config.batch is None:
        return None
    deployment = serve.deployment(
        BatchReplica,
        name=names.BATCH,
        ray_actor_options={"num_cpus": config.batch.cpus},
        max_ongoing_requests=NO_LIMIT,
        health_check_period_s=HEALTH_PERIOD_S,
        graceful_shutdown_timeout_s=SHUTDOWN_MARGIN_S,
        graceful_shutdown_wait_loop_s=POLL_S,
        request_router_config=listened_to(names.BATCH_POOL),
    )
    part = for_router(config)
    return with_version(deployment, part.model_dump_json()).bind(part, engines)
