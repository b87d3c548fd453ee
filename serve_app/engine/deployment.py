"""The engine deployment: one replica is one engine behind its own HTTP server.

Ray Serve starts it, asks it how it is, and ends it; requests reach it over HTTP, from the ingress alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import ray
from prometheus_client.registry import Collector
from ray import serve
from ray.serve.config import AutoscalingConfig

from serve_app.accounts.audit import AuditLog
from serve_app.autoscaling.serve_policy import autoscaling_config
from serve_app.compat.deployment_version import with_version
from serve_app.config import names
from serve_app.config.schema import ImageConfig, ModelConfig, ServiceConfig
from serve_app.config.telemetry import Telemetry
from serve_app.engine.interface import Engine
from serve_app.engine.start_failure import OwnOutput, why
from serve_app.logs import start as logs
from serve_app.logs.names import ProcessName
from serve_app.planning.machine import without_weights
from serve_app.planning.parts import for_engine
from serve_app.planning.resolve import gpu_share
from serve_app.replica import ledger
from serve_app.replica.failed_starts import QUICK, NodeStarts, PermanentStartError
from serve_app.replica.http_replica import HttpReplica
from serve_app.replica.latencies import Latencies
from serve_app.replica.place import PLACE, PlacePage
from serve_app.replica.protocol import ReplicaLoad, ReplicaSignals
from serve_app.replica.serve_options import HEALTH_PERIOD_S, NO_LIMIT, POLL_S, SHUTDOWN_MARGIN_S
from serve_app.replica.sleep import SleepControl
from serve_app.routing.discovery import listened_to
from serve_app.tracing.start import start

START_FAILURES = QUICK
"""After so many failed starts, with no replica up, Serve gives a deployment up. Its own 20 may take an hour."""

T = TypeVar("T")

logger = logging.getLogger("ray.serve")


class EngineReplica(HttpReplica):
    """What Ray Serve runs once per replica of a model."""

    async def __init__(  # type: ignore[misc]
        self,
        model: ModelConfig,
        images: ImageConfig,
        cache_directory: str | None,
        audit_directory: str | None,
        telemetry: Telemetry,
    ) -> None:
        """In `audit_directory` there is a line for each request, unless it is None."""
        began = time.monotonic()
        context = serve.get_replica_context()
        id = context.replica_id.unique_id
        self._model = model
        self._ledger = ledger.Ledger(model.id)
        latencies = Latencies(model.id)
        self._ledger.ended.append(latencies.ended)
        self._metered = 0
        """Accepted sequences that the engine's meter knows of."""
        process = ProcessName("engine", context.app_name, id)
        logs.start(telemetry.logging, process)
        self._tracing = start(telemetry.tracing, process)
        if self._tracing is not None:
            self._tracing.for_engine()
        self._engine = await _started(model, images, cache_directory)
        app = self._engine.app
        counts: list[Collector] = [latencies]
        if self._engine.adapters is not None:
            counts.append(self._engine.adapters.counts)
        if self._tracing is not None:
            counts.append(self._tracing.counts)
            app = self._tracing.of_replica(app, model.id)
        app = logs.of_requests(telemetry.logging, app)
        await self.listen(
            app,
            model=model.id,
            capacity=model.capacity,
            max_running=model.max_running,
            max_model_len=self._engine.max_model_len,
            max_adapters=model.adapters.max_loaded if model.adapters else 0,
            versions=self._engine.versions,
            failure=self._failure,
            sleep=SleepControl(self._engine) if model.autoscaling and model.autoscaling.standby else None,
            ledger=self._ledger,
            counts=counts,
            pages={PLACE: PlacePage(model)},
        )
        self._account = ledger.prefix(context.app_name) + id
        self._background = [asyncio.create_task(self._ledger.publish(self._account))]
        self._audit = AuditLog(Path(audit_directory).expanduser(), id) if audit_directory else None
        if (audit := self._audit) is not None:
            self._ledger.ended.append(lambda account: audit.answered(account, model.id))
            self._background.append(asyncio.create_task(audit.follow()))
        logger.info("%s is ready at %s after %.1f s", model.id, self._info.url, time.monotonic() - began)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Serve's hook, asked every `metrics_interval_s`: what the autoscaling policy decides from."""
        load, meter, now = self.load(), self._engine.meter, time.monotonic()
        metered, self._metered = self._metered, self.accepted
        meter.add(now, arrivals=self._metered - metered)
        return ReplicaSignals(
            running=load.running,
            # Including those whose prompt is not with the engine yet: images being fetched, texts being tokenized.
            waiting=max(load.waiting, load.in_flight - load.running),
            kv_usage=load.kv_usage,
            output_tokens_per_s=meter.output_tokens_per_s(now),
            ttft_s=meter.ttft_s(now),
            arrivals_per_s=meter.arrivals_per_s(now),
            service_s=meter.service_s(now),
            asleep=float(load.asleep),
        ).to_dict()

    def check_health(self) -> None:
        """Serve's hook: raises when the engine can serve no longer, and Serve replaces the replica."""
        if reason := self._failure():
            raise RuntimeError(f"{self._model.id}: {reason}")

    def _failure(self) -> str | None:
        return self._engine.failure() or (self._sleep.failure if self._sleep else None)

    def load(self) -> ReplicaLoad:
        """What admission control has counted, and the engine's state where it has anything to do."""
        counted = super().load()
        if (loaded := self._engine.adapters) is not None:
            counted = replace(counted, adapters=loaded.ids, adapter_requests=dict(loaded.counts.open))
        if not counted.in_flight:
            return counted
        engine = self._engine.load()
        return replace(counted, running=engine.running, waiting=engine.waiting, kv_usage=engine.kv_usage)

    async def __del__(self) -> None:
        """Serve awaits this when the replica leaves: finish what was accepted, then end the engine."""
        if not hasattr(self, "_engine"):
            return
        if cut_off := await self.close(0.0 if self._engine.failure() else self._model.drain_timeout_s):
            logger.warning("%s: %d requests cut off by the end of the drain", self._model.id, cut_off)
        for task in self._background:
            task.cancel()
        await self._ledger.write(self._account, self._ledger.fact())
        if self._audit is not None:
            await _noted(self._audit.close)
        await self._engine.stop()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)


async def _started(model: ModelConfig, images: ImageConfig, cache_directory: str | None) -> Engine:
    """An engine; raises PermanentStartError where none can start here until something changes.

    Why a start failed is left for the next one on this node and for everybody who looks (`replica/failed_starts.py`).
    """
    node = ray.get_runtime_context().get_node_id()
    starts = NodeStarts(serve.get_replica_context().app_name, model, node)
    if last := await _noted(starts.last, time.time()):
        if last.may_repeat(time.time()):
            await _noted(starts.failed, last.reason, True, time.time())
            raise PermanentStartError(f"{model.id}: {last.reason}")
        if pause_s := last.pause_s(time.time()):
            logger.warning(
                "%s: start %d waits %.0f s, as the last failed: %s", model.id, last.count + 1, pause_s, last.reason
            )
            await asyncio.sleep(pause_s)
    output = OwnOutput()
    try:
        if wrong := without_weights(model):
            raise FileNotFoundError(wrong)
        engine = await start_engine(model, images, cache_directory)
    except Exception as error:
        reason, permanent = why(error, output.lines())
        await _noted(starts.failed, reason, permanent, time.time())
        if permanent:
            raise PermanentStartError(f"{model.id}: {reason}") from error
        raise
    await _noted(starts.succeeded)
    return engine


async def _noted(note: Callable[..., T], *args: Any) -> T | None:
    """What a note to others gives; None where it cannot be left, which keeps no engine from starting."""
    try:
        return await asyncio.to_thread(note, *args)
    except Exception as error:
        logger.warning("failed starts are not noted: %r", error)
        return None


async def start_engine(model: ModelConfig, images: ImageConfig, cache_directory: str | None = None) -> Engine:
    if model.engine == "simulated":
        from serve_app.engine.simulation import SimulatedEngine

        return await SimulatedEngine.start(model)
    from serve_app.engine.vllm import VllmEngine

    return await VllmEngine.start(model, images, cache_directory)


def engine_application(model: ModelConfig, service: ServiceConfig, surge_percent: int = 0) -> serve.Application:
    """The Ray Serve deployment of the replicas of one model of a service, with what each of them is built from.

    It is deployed anew when any of that changes. `surge_percent` is how many new replicas may start before old ones
    stop.
    """
    part = for_engine(model, service.tracing)
    deployment = serve.deployment(
        EngineReplica,
        name=names.deployment(model.id),
        ray_actor_options={"num_cpus": model.cpus, "num_gpus": gpu_share(model)},
        max_constructor_retry_count=START_FAILURES,
        max_ongoing_requests=NO_LIMIT,
        health_check_period_s=HEALTH_PERIOD_S,
        graceful_shutdown_timeout_s=model.drain_timeout_s + SHUTDOWN_MARGIN_S,
        graceful_shutdown_wait_loop_s=POLL_S,
        request_router_config=listened_to(model.id),
        max_surge_percent=surge_percent,
        **number_of_replicas(model),
    )
    usage = service.ingress.usage
    audit = usage.directory if usage and usage.audit else None
    given = (service.cache_directory, audit, service.telemetry)
    uses = (part.model_dump_json(), service.images.model_dump_json(), *map(repr, given))
    return with_version(deployment, *uses).bind(part, service.images, *given)


def number_of_replicas(model: ModelConfig) -> dict[str, int | AutoscalingConfig]:
    """The option of Serve's that says how many replicas a model has: a fixed number, or bounds and a policy."""
    if model.autoscaling is None:
        return {"num_replicas": model.replicas or 1}
    return {"autoscaling_config": autoscaling_config(model.id, model.autoscaling, model.max_running)}
