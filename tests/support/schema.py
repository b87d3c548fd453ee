"""Schemathesis against a service's own description of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
TIMEOUT_S = 120
Change = Callable[[Any], None]


def operations(url: str) -> Iterator[Any]:
    """All that the service describes."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", wait_for_schema=30)
    for found in schema.get_all_operations():
        yield found.ok()


def check(operation: Any, examples: int, change: Change = lambda case: None) -> int:
    """Send that many requests that the description allows, changed a little; how many were sent. Raises for an answer
    that it does not allow."""
    sent = 0

    @seed(1)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=operation.as_strategy())
    def conforms(case: Any) -> None:
        nonlocal sent
        change(case)
        sent += 1
        case.call_and_validate(checks=CHECKS, timeout=TIMEOUT_S)

    conforms()
    return sent
