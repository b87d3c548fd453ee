"""A client lowers its own priority, and raises nobody's."""

from __future__ import annotations

from typing import Any

from serve_app.engine.acceptance import AcceptingLLM


class DownwardsLLM(AcceptingLLM):
    """Takes a priority above others', a number below 0 in vLLM's order, for theirs.

    Whatever route, header or field it came by: all requests come through `add_request` (vLLM 0.32).
    """

    async def add_request(self, *args: Any, priority: int = 0, **kwargs: Any) -> Any:
        return await super().add_request(*args, priority=max(0, priority), **kwargs)
