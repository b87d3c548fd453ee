"""The simulated engine, as a replica starts, asks and stops it."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp

from serve_app.config.schema import ModelConfig, Simulated
from serve_app.engine.adapters.loaded import LoadedAdapters
from serve_app.engine.adapters.serving import WithAdapter
from serve_app.engine.bounds import Bounds
from serve_app.engine.context import Context
from serve_app.engine.continuing import Continuing
from serve_app.engine.meter import Meter
from serve_app.engine.simulation import http
from serve_app.engine.simulation.batch import SimulatedBatch
from serve_app.engine.simulation.driver import Driver
from serve_app.engine.simulation.loader import SimulatedLoader
from serve_app.engine.simulation.requests import LONGEST_TOKEN
from serve_app.replica.protocol import ReplicaLoad

VERSION = "1"
"""Of the simulated engine, as a replica reports it."""


class SimulatedEngine:
    """One replica's engine. Dozens of them fit on a core or two."""

    app: ASGIApp
    """vLLM's routes, and POST /simulate/fail."""
    max_model_len: int
    """Context length, tokens: no more than the KV cache holds."""
    versions: dict[str, str]
    """{"simulated": ...}"""
    meter: Meter
    """What it has lately put out, on `time.monotonic()`."""

    adapters: LoadedAdapters | None
    """Those it has loaded; None where its model has none."""

    def __init__(self, model: ModelConfig) -> None:
        timing = model.simulated or Simulated()
        self._wake_s = timing.wake_s
        self.max_model_len = min(timing.max_model_len, timing.kv_tokens)
        self.versions = {"simulated": VERSION}
        self._driver = Driver(SimulatedBatch(timing, model.max_running, model.max_queued))
        self.meter = self._driver.meter
        app: ASGIApp = http.build(self._driver, model, self.max_model_len, VERSION)
        app = Bounds(app, Context(self.max_model_len, LONGEST_TOKEN))
        loader = SimulatedLoader(self._driver.stall, timing)
        self.adapters = LoadedAdapters(model.adapters.max_loaded, loader, model.id) if model.adapters else None
        self.app = Continuing(WithAdapter(app, self.adapters) if self.adapters else app, self.failure)

    @classmethod
    async def start(cls, model: ModelConfig) -> SimulatedEngine:
        """Be ready after `simulated.startup_s`."""
        await asyncio.sleep((model.simulated or Simulated()).startup_s)
        return cls(model)

    def load(self) -> ReplicaLoad:
        """Batch, queue and KV cache as they are now."""
        batch = self._driver.batch
        return ReplicaLoad(running=batch.running, waiting=batch.waiting, kv_usage=batch.kv_usage)

    def failure(self) -> str | None:
        """Why it is dead; None while healthy."""
        return self._driver.dead

    async def sleep(self) -> None:
        """At once: it has nothing to give back."""

    async def wake(self) -> None:
        """After `simulated.wake_s`."""
        await asyncio.sleep(self._wake_s)

    async def stop(self) -> None:
        """Break off what is open and accept no more."""
        self._driver.die(self._driver.dead or "stopped")
