"""What /autoscaling tells beside the policy's own state."""

from __future__ import annotations

from serve_app.ingress.scaling import adapters
from serve_app.replica.protocol import ReplicaLoad
from serve_app.routing.replica import Replica
from tests.support.replicas import published


def replica(name: str, *loaded: str, **requests: int) -> Replica:
    return Replica(published(name, ReplicaLoad(adapters=loaded, adapter_requests=requests)))


def test_adapters_are_told_with_where_they_are_and_what_is_asked_of_them() -> None:
    found = adapters([replica("1", "hot", "cold", hot=3), replica("2", "hot", hot=2, coming=1), replica("3")])
    assert list(found.items()) == [
        ("hot", {"replicas": 2, "requests": 5}),
        ("coming", {"replicas": 0, "requests": 1}),
        ("cold", {"replicas": 1, "requests": 0}),
    ]
