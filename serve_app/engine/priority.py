"""A client lowers its own priority, and raises nobody's; a key's requests may be lower from the start."""

from __future__ import annotations

from typing import Any

from serve_app.engine.acceptance import AcceptingLLM
from serve_app.replica.ledger import current

BATCH = 10
"""Of batch work that says no other."""


class DownwardsLLM(AcceptingLLM):
    """Takes a priority above others', a number below 0 in vLLM's order, for theirs, and BATCH for batch work's.

    Whatever route, header or field it came by: all requests come through `add_request` (vLLM 0.32).
    """

    async def add_request(self, *args: Any, priority: int = 0, **kwargs: Any) -> Any:
        account = current.get(None)
        least = BATCH if account is not None and account.batch and priority <= 0 else 0
        return await super().add_request(*args, priority=max(least, priority), **kwargs)
