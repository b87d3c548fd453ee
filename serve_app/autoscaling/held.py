"""Requests held outside replicas for want of one: how the processes that hold them tell the policy.

asyncio.create_task(held.report("batch", lambda: {"LiquidAI/LFM2-1.2B": backlog.open}))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping


async def report(source: str, counts: Callable[[], Mapping[str, int]]) -> None:
    """Keep the policy informed of `counts()`, requests by model id, until cancelled.

    `source` names what holds them (ingress, batch), for people; each process counts on its own. A count is written
    while it is not zero, and once more when it has become zero.
    """
    raise NotImplementedError
