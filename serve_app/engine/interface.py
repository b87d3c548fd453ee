"""What an engine must offer to be served by a replica."""

from __future__ import annotations

from typing import Protocol

from starlette.types import ASGIApp

from serve_app.engine.adapters.loaded import LoadedAdapters
from serve_app.engine.meter import Meter
from serve_app.replica.protocol import ReplicaLoad


class Engine(Protocol):
    """A started engine and its OpenAI-compatible application."""

    app: ASGIApp
    max_model_len: int
    """Context length, tokens."""
    versions: dict[str, str]
    """What serves, by name."""
    meter: Meter
    """What it has lately put out, on `time.monotonic()`."""

    adapters: LoadedAdapters | None
    """Those it has in memory; None where its model has none."""

    def load(self) -> ReplicaLoad:
        """Running and waiting sequences and KV-cache use, now."""
        ...

    def failure(self) -> str | None:
        """Why it can serve no longer; None while it can."""
        ...

    async def sleep(self) -> None:
        """Give back what memory it can; called while no request is open."""
        ...

    async def wake(self) -> None:
        """Be as before it slept."""
        ...

    async def stop(self) -> None:
        """End it and every process it started."""
        ...
