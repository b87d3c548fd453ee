"""Routing policies: their names, and one that this service does not have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import get_args

import pytest
from starlette.types import Scope

from serve_app.config.errors import ConfigError
from serve_app.config.schema import ModelConfig, ServiceConfig
from serve_app.http.errors import ApiError
from serve_app.routing.body import RequestBody
from serve_app.routing.catalogue import Catalogue, Served
from serve_app.routing.head import RequestHead
from serve_app.routing.picker import Key, no_requests_placed
from serve_app.routing.pickers import PICKERS
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from serve_app.routing.random_set import RandomSet
from serve_app.routing.replica import Replica
from serve_app.routing.router import Router
from tests.support.replicas import published


class FirstByName:
    """A policy of this test's own: the first usable replica by name."""

    affine = False

    def __init__(self) -> None:
        self.placed = no_requests_placed()

    def key(self, scope: Scope, head: RequestHead) -> Key | None:
        return None

    def update(self, replicas: Mapping[str, Replica]) -> None: ...

    def pick(
        self,
        room: RandomSet[Replica],
        usable: Callable[[Replica], bool],
        key: Key | None,
        adapter: str | None = None,
    ) -> Replica | None:
        return min(filter(usable, room), key=lambda replica: replica.id, default=None)


def test_the_configuration_takes_the_names_there_are() -> None:
    assert set(get_args(ModelConfig.model_fields["routing_policy"].annotation)) == set(PICKERS)


def test_the_key_of_earlier_versions_says_what_to_write_now() -> None:
    with pytest.raises(ConfigError, match="routing_policy: least_loaded"):
        ServiceConfig.parse({"models": [{"id": "m", "affinity": False}]})


async def test_a_new_policy_is_a_class_and_nothing_else() -> None:
    pool = ReplicaPool("m", QueueLimits(1, 0.01, 0.01), FirstByName())
    pool.update([published("b"), published("a", capacity=2, max_running=2), published("c")])
    assert [(await pool.acquire()).id for _ in range(3)] == ["a", "a", "b"]
    router = Router(Catalogue([Served(ModelConfig.model_validate({"id": "m", "engine": "simulated"}), pool)]))
    scope = {"method": "POST", "path": "/v1/completions", "headers": [(b"content-type", b"application/json")]}
    request = router.route(scope, RequestBody(b'{"prompt": ["a", "b"], "n": 2}'))
    assert (request.pool, request.claim.sequences) == (pool, 4)
    with pytest.raises(ApiError):
        router.route(scope, RequestBody(b'{"model": "other"}'))
