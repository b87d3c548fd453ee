"""What a replica says of itself: the vocabulary that engines, ingress, balancing and autoscaling share.

Its types travel through Ray Serve's hooks as plain dictionaries; the headers between the ingress and a replica.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

REPORT_PERIOD_S = 0.5
"""How often a replica says what it is doing."""
LOOK_BACK_S = 1.0
"""Autoscaling sees means over this long: a burst of a moment is none."""
RATES_OVER_S = 2.0
"""What happens so many times a second is counted over this long."""

TOKEN_HEADER = b"x-replica-token"
"""Carries the replica's secret with every request."""
SEQUENCES_HEADER = b"x-sequences"
"""How many sequences the request is, where it is more than one."""
BATCH_HEADER = b"x-batch"
"""Marks a request as batch work, which makes way for people's."""
REFUSED_HEADER = b"x-replica-refused"
"""Says, with one of the reasons below, that the client has seen nothing and the request may go elsewhere."""
FULL, DRAINING, DEAD, DIED = "full", "draining", "dead", "died"
"""DIED alone means that the engine had begun with the request: it may be what killed it."""


@dataclass(frozen=True, slots=True)
class ReplicaInfo:
    """Said once, when a replica is ready (`record_replica_metadata`)."""

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
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of what serves: {"vllm": ...} or {"simulated": ...}."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ReplicaInfo:
        return cls(**data)


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """Said again and again while it serves, to be picked by (`record_routing_stats`)."""

    running: int = 0
    """Sequences in the batch."""
    waiting: int = 0
    """Sequences accepted but not yet in the batch."""
    kv_usage: float = 0.0
    """Share of the KV cache in use, 0 to 1."""
    in_flight: int = 0
    """Sequences of the requests open at the replica's server."""
    interactive: int = 0
    """Those of them that are not batch work."""
    interactive_begun: int = 0
    """Such sequences so far, ended ones included."""
    draining: bool = False
    """Finishing what it has; offer it nothing."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ReplicaLoad:
        return cls(**data)

    @property
    def demand(self) -> int:
        """Sequences that occupy it, whichever side counts more of them."""
        return max(self.in_flight, self.running + self.waiting)


@dataclass(frozen=True, slots=True)
class ReplicaSignals:
    """Said again and again while it serves, to be scaled by (`record_autoscaling_stats`)."""

    running: float = 0.0
    """Sequences in the batch."""
    waiting: float = 0.0
    """Sequences accepted but not yet in the batch."""
    kv_usage: float = 0.0
    """Share of the KV cache in use, 0 to 1."""
    output_tokens_per_s: float = 0.0
    """Tokens generated a second, over the last RATES_OVER_S like all that follows."""
    ttft_s: float = 0.0
    """Mean time to first token, as the engine sees it, of those that got theirs last; 0 before the first."""
    arrivals_per_s: float = 0.0
    """Sequences accepted a second."""
    service_s: float = 0.0
    """Mean time in the batch, queueing not counted, of the sequences that ended last; 0 before the first."""

    def to_dict(self) -> dict[str, float]:
        return asdict(self)
