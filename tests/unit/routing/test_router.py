"""The router: what it reads of a request once, and what it counts."""

from __future__ import annotations

import pytest

from serve_app.config.schema import ModelConfig
from serve_app.http.errors import ApiError
from serve_app.replica.protocol import BATCH_HEADER
from serve_app.routing.body import RequestBody
from serve_app.routing.catalogue import Catalogue, Served
from serve_app.routing.pickers import PICKERS
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from serve_app.routing.router import Router
from tests.support.replicas import published

SCOPE = {"method": "POST", "path": "/v1/completions", "headers": [(b"content-type", b"application/json")]}


def router(policy: str = "prefix_affinity", *replicas: str) -> Router:
    pool = ReplicaPool("m", QueueLimits(8, 0.01, 0.01), PICKERS[policy]())
    pool.update(published(replica) for replica in replicas)
    return Router(Catalogue([Served(ModelConfig.model_validate({"id": "m", "engine": "simulated"}), pool)]))


def test_batch_work_is_marked_once() -> None:
    for body in (b"{}", b'{"priority": 5}'):
        headers = router().route(SCOPE, RequestBody(body), batch=True).scope["headers"]
        assert headers.count((BATCH_HEADER, b"1")) == 1
    assert (BATCH_HEADER, b"1") not in router().route(SCOPE, RequestBody(b"{}")).scope["headers"]


@pytest.mark.parametrize(
    ("policy", "replicas", "keyed"),
    [("prefix_affinity", "ab", True), ("prefix_affinity", "a", False), ("least_loaded", "ab", False)],
)
def test_a_request_has_a_key_where_it_makes_a_difference(policy: str, replicas: str, keyed: bool) -> None:
    request = router(policy, *replicas).route(SCOPE, RequestBody(b'{"prompt": "a", "session_id": "s"}'))
    assert (request.claim.key is not None) == keyed


async def test_a_request_without_a_replica_is_counted_by_its_status() -> None:
    routes = router()
    with pytest.raises(ApiError) as refused:
        await routes.answer(routes.route(SCOPE, RequestBody(b"{}")), lambda message: pytest.fail("nothing is sent"))
    assert refused.value.status == 503
    counted = routes.metrics.requests.labels("m", "/v1/completions", "503", "")
    assert next(iter(counted.collect())).samples[0].value == 1
    assert next(iter(routes.metrics.waited.labels("", "m").collect())).samples[0].value > 0
