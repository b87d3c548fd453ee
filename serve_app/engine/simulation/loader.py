"""How a simulated engine loads an adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from serve_app.adapters.adapter import Adapter
from serve_app.config.sections import Simulated


class SimulatedLoader:
    """Takes its time beside the steps, and then holds all of them up, whatever an adapter's files are."""

    def __init__(self, stall: Callable[[float], Awaitable[None]], timing: Simulated) -> None:
        """`stall` lets the engine do nothing for so many seconds, and returns when they are over."""
        self._stall = stall
        self._timing = timing

    async def load(self, adapter: Adapter) -> None:
        """Nothing is read."""
        await asyncio.sleep(self._timing.adapter_load_ms / 1000)
        await self._stall(self._timing.adapter_stall_ms / 1000)

    async def unload(self, adapter: Adapter) -> None:
        """Nothing is given back."""
