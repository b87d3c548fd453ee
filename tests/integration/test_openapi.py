"""/openapi.json where engines describe nothing: the own routes and the Batch API, asked as they are described."""

from __future__ import annotations

from tests.support.schema import check, operations
from tests.support.service import Service


def test_the_batch_api_answers_as_it_is_described(simulated: Service) -> None:
    asked = {one.label: check(one, 3) for one in operations(simulated.url)}
    assert {"POST /v1/files", "GET /v1/batches", "POST /v1/batches/{id}/cancel", "GET /autoscaling"} <= asked.keys()
    assert all(asked.values())
