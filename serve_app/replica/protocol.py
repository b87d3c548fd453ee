"""What a replica says of itself, and the headers of a request to it: the vocabulary that engines, router, autoscaling
and simulator share.

ReplicaInfo, ReplicaLoad and ReplicaSignals travel through Ray Serve's hooks as plain dictionaries.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

REPORT_PERIOD_S = 0.5
"""How often a replica says what it is doing."""
LOOK_BACK_S = 1.0
"""Autoscaling sees means of what replicas report over this long, so that a burst of a moment does not count."""
RATES_OVER_S = 2.0
"""A replica's rates (tokens, arrivals a second) are counted over this long."""

TOKEN_HEADER = b"x-replica-token"
"""Carries the replica's secret with every request."""
SEQUENCES_HEADER = b"x-sequences"
"""How many sequences the request is, where it is more than one."""
BATCH_HEADER = b"x-batch"
"""Marks a request as batch work, which has a lower priority than interactive requests."""
LIGHT_HEADER = b"x-light"
"""Marks a request whose client holds much less than its share of the replicas: in the engine's queue it goes before
those of others."""
KEY_HEADER = b"x-key-name"
"""Names the key whose request it is; absent where that has no name."""
REQUEST_ID = b"x-request-id"
"""The client's own header, which vLLM takes its request's id from."""
ANSWER_ID_HEADER = b"x-answer-id"
"""The request's id in the service's logs and answers, where the body names another for the engine."""
WAITED_HEADER = b"x-waited-s"
"""How long the request waited for a replica, s."""
PROMPT_LIMIT_HEADER = b"x-max-prompt-tokens"
"""Tokens that a prompt of the request may have, where its key sets a limit."""
ADAPTER_HEADER = b"x-adapter"
"""The adapter that the request is for, as `adapters.adapter.Adapter` writes it; absent where it is for the model."""
OUTPUT_LIMIT_HEADER = b"x-max-output-tokens"
"""Tokens after which an answer of the request ends, where its key sets a limit."""
USED_HEADER = b"x-used-tokens"
"""On an answer that is whole: the tokens that the engine processed for it, without those of its prompt that were
cached."""
REPLICA_HEADER = b"x-replica"
"""On an answer: the id of the replica that made it, or that began with it."""
PLACES_HEADER = b"x-batch-places"
"""The request is to be refused where so many sequences are open: another replica may have a place in its batch."""
REFUSED_HEADER = b"x-replica-refused"
"""On a refusal, why: one of the values below. The client has seen nothing, and the request may go elsewhere."""
FULL, CROWDED, DRAINING, DEAD, DIED = "full", "crowded", "draining", "dead", "died"
"""Values of REFUSED_HEADER. DIED alone means that the engine had begun with the request, which may have killed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaInfo:
    """Who and where a replica is: said once, when it is ready (Serve's hook `record_replica_metadata`)."""

    model: str
    """The model's id."""
    url: str
    """Base URL of the replica's HTTP server, without a trailing slash."""
    token: str
    """Secret every request to that server must carry."""
    capacity: int
    """Sequences it holds at most, running and queued."""
    max_running: int
    """Sequences it decodes at the same time."""
    max_model_len: int
    """Context length, tokens."""
    created: int
    """When it became ready, seconds since the epoch."""
    max_adapters: int = 0
    """Adapters it has room for at the same time."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of what serves: {"vllm": ...} or {"simulated": ...}."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ReplicaInfo:
        return cls(**data)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaLoad:
    """How busy a replica is: said every REPORT_PERIOD_S, for the router to pick by (hook `record_routing_stats`)."""

    running: int = 0
    """Sequences in the batch."""
    waiting: int = 0
    """Sequences accepted but not yet in the batch."""
    kv_usage: float = 0.0
    """Share of the KV cache in use, 0 to 1."""
    in_flight: int = 0
    """Sequences of the requests open at the replica's server."""
    interactive: int = 0
    """Sequences open at the replica's server that are not batch work."""
    interactive_begun: int = 0
    """Sequences so far that are not batch work, ended ones included."""
    draining: bool = False
    """Finishing what it has; offer it nothing."""
    failed: bool = False
    """Its engine is dead; Ray Serve replaces it soon."""
    asleep: bool = False
    """Its engine sleeps, or will once it has nothing open; a request wakes it."""
    adapters: tuple[str, ...] = ()
    """Ids of the adapters it has in memory, the one that was used longest ago first."""
    adapter_requests: dict[str, int] = field(default_factory=dict)
    """Requests open there by the adapter that they are for, those that wait for it to load among them."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ReplicaLoad:
        return cls(**data)

    @property
    def demand(self) -> int:
        """Sequences that occupy it, whichever side counts more of them."""
        return max(self.in_flight, self.running + self.waiting)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSignals:
    """What autoscaling decides from: said every REPORT_PERIOD_S (Serve's hook `record_autoscaling_stats`)."""

    running: float = 0.0
    """Sequences in the batch."""
    waiting: float = 0.0
    """Sequences accepted but not yet in the batch."""
    kv_usage: float = 0.0
    """Share of the KV cache in use, 0 to 1."""
    output_tokens_per_s: float = 0.0
    """Tokens generated a second, over the last RATES_OVER_S."""
    ttft_s: float = 0.0
    """Mean time to first token, as the engine sees it, over the last RATES_OVER_S that had one; 0 before the first."""
    arrivals_per_s: float = 0.0
    """Sequences accepted a second, over the last RATES_OVER_S."""
    service_s: float = 0.0
    """Mean time in the batch, queueing not counted, of the sequences that ended last; 0 before the first."""
    asleep: float = 0.0
    """1 while its engine sleeps, or will once it has nothing open; 0 otherwise."""

    def to_dict(self) -> dict[str, float]:
        return asdict(self)
