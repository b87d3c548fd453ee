"""How many tokens a streamed chunk holds: more when many streams share one engine.

A chunk costs the replica's Python, the ingress, HAProxy and the client about the same whatever it holds; at 10,000
tokens a second, one a chunk, the replica's core is full. With many streams, which is when it matters, steps are long
enough apart that nobody reads along token by token.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.engine.async_llm import AsyncLLM

TOKENS_BY_STREAMS = ((64, 4), (32, 2))
"""From so many open requests of an engine on, so many tokens a chunk. The first token is always sent at once."""


def tokens_per_chunk(streams: int) -> int:
    """For a request that begins while so many are open."""
    return next((tokens for least, tokens in TOKENS_BY_STREAMS if streams >= least), 1)


class CoalescingLLM(AsyncLLM):
    """Chooses vLLM's `stream_interval` anew for each request, in place of one number for the engine."""

    async def add_request(self, *args: Any, **kwargs: Any) -> Any:
        open_requests = self.output_processor.get_num_unfinished_requests()
        self.output_processor.stream_interval = tokens_per_chunk(open_requests)
        return await super().add_request(*args, **kwargs)
