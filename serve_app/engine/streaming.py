"""How many tokens a streamed chunk holds: more when many streams share one engine.

A chunk costs the replica's Python, the ingress, HAProxy and the client about the same whatever it holds; at 10,000
tokens a second, one a chunk, the replica's core is full. With many streams, which is when it matters, steps are long
enough apart that nobody reads along token by token.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.engine.output_processor import OutputProcessor

from serve_app.engine.priority import DownwardsLLM

TOKENS_BY_STREAMS = ((64, 4), (32, 2))
"""From so many open requests of an engine on, so many tokens a chunk. The first token is always sent at once."""


def tokens_per_chunk(streams: int) -> int:
    """While so many requests are open."""
    return next((tokens for least, tokens in TOKENS_BY_STREAMS if streams >= least), 1)


class CoalescingLLM(DownwardsLLM):
    """Chooses vLLM's `stream_interval` whenever a request begins, not once for the engine."""

    async def add_request(self, *args: Any, **kwargs: Any) -> Any:
        streams = self.output_processor.get_num_unfinished_requests() + 1
        set_interval(self.output_processor, tokens_per_chunk(streams))
        return await super().add_request(*args, **kwargs)


def set_interval(processor: OutputProcessor, tokens: int) -> None:
    """From now on a chunk holds at least so many tokens; those of requests that are open do not become shorter.

    In a burst the first to begin see few others, and are told when there are more.
    """
    before, processor.stream_interval = processor.stream_interval, tokens
    if tokens <= before:
        return
    for state in processor.request_states.values():
        if state.stream_interval < tokens and state.detokenizer is not None:
            if state.stream_interval == 1:
                # Each token was sent as it came, and not counted.
                state.sent_tokens_offset = state.detokenizer.num_output_tokens()
            state.stream_interval = tokens
