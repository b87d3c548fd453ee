"""How a simulated engine loads an adapter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from serve_app.adapters.adapter import Adapter


class SimulatedLoader:
    """An adapter takes its time to load, whatever its files are, and holds everything up meanwhile."""

    def __init__(self, stall: Callable[[float], Awaitable[None]], load_s: float) -> None:
        """`stall` lets the engine do nothing for so many seconds, and returns when they are over."""
        self._stall = stall
        self._load_s = load_s

    async def load(self, adapter: Adapter) -> None:
        """Nothing is read."""
        await self._stall(self._load_s)

    async def unload(self, adapter: Adapter) -> None:
        """Nothing is given back."""
