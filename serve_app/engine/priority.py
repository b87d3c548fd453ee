"""A client lowers its own priority, and raises nobody's; what a request has from the start is its account's."""

from __future__ import annotations

from typing import Any

from serve_app.engine.acceptance import AcceptingLLM
from serve_app.replica.ledger import current


class DownwardsLLM(AcceptingLLM):
    """Takes a client's own priority where it lowers the request's, with a number above 0 in vLLM's order.

    Whatever route, header or field it came by: all requests come through `add_request` (vLLM 0.32).
    """

    async def add_request(self, *args: Any, priority: int = 0, **kwargs: Any) -> Any:
        account = current.get(None)
        if priority <= 0:
            priority = account.priority if account is not None else 0
        return await super().add_request(*args, priority=priority, **kwargs)
