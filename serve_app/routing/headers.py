"""What of a client's headers goes to a replica."""

from __future__ import annotations

from serve_app.config.keys import UNNAMED, KeyConfig
from serve_app.replica.protocol import (
    ANSWER_ID_HEADER,
    BATCH_HEADER,
    KEY_HEADER,
    OUTPUT_LIMIT_HEADER,
    PROMPT_LIMIT_HEADER,
    REQUEST_ID,
)
from serve_app.routing.head import MOST_ID_CHARACTERS, Headers, RequestHead, header, id_too_long

PRIORITY = b"x-vllm-priority"
KEPT = frozenset(
    {
        b"content-type",
        b"accept",
        b"traceparent",
        b"tracestate",
        b"endpoint-load-metrics-format",
        b"x-session-id",
        REQUEST_ID,
        PRIORITY,
    }
)
"""Those that vLLM reads. Those between ingress and replica (`serve_app.replica.protocol`) are never a
client's to send, nor is X-Data-Parallel-Rank."""


def for_replica(
    headers: Headers, head: RequestHead, owner: KeyConfig = UNNAMED, *, batch: bool = False
) -> list[tuple[bytes, bytes]]:
    """The headers with which a request of a key's goes to a replica. Raises ApiError 400 for an id that is too long.

    A body's `request_id` comes before the header, which HAProxy gives to every request. One that lowers its own
    priority, in the body or with vLLM's header, is marked as batch work, as is one of a `batch` and of a key with that
    priority: nobody has to make way for it.
    """
    kept = [one for one in headers if one[0] in KEPT]
    if len(header(kept, REQUEST_ID)) > MOST_ID_CHARACTERS:
        raise id_too_long("X-Request-Id")
    if len(memoryview(head.request_id)):
        kept = [(ANSWER_ID_HEADER if name == REQUEST_ID else name, value) for name, value in kept]
    kept += _of_key(owner)
    if (
        batch
        or owner.priority == "batch"
        or _is_low(bytes(memoryview(head.priority)[:32]))
        or _is_low(header(kept, PRIORITY))
    ):
        kept.append((BATCH_HEADER, b"1"))
    return kept


def _of_key(owner: KeyConfig) -> list[tuple[bytes, bytes]]:
    if not owner.name:
        return []
    limits = ((PROMPT_LIMIT_HEADER, owner.max_prompt_tokens), (OUTPUT_LIMIT_HEADER, owner.max_output_tokens))
    return [(KEY_HEADER, owner.name.encode()), *((name, b"%d" % most) for name, most in limits if most is not None)]


def is_batch(headers: Headers) -> bool:
    """Whether a request with these headers for a replica is batch work."""
    return bool(header(headers, BATCH_HEADER))


def _is_low(priority: bytes | str) -> bool:
    """Whether it is below others' 0: a number above it, as JSON or a text. vLLM refuses what is neither."""
    try:
        return float(priority.strip(b'"') if isinstance(priority, bytes) else priority) > 0 if priority else False
    except ValueError:
        return False
