"""A few of the fuzz suite's requests; `make fuzz` sends thousands."""

from __future__ import annotations

import asyncio

from tests.fuzz.suite import Suite
from tests.support.service import Service


def test_damaged_requests_cost_nobody_anything(service: Service) -> None:
    outcome = asyncio.run(Suite(service.url, 1, print).run(bodies=50, images=6, deadline_s=120))
    assert outcome.done == 56
    assert not outcome.failures, "\n".join(map(str, outcome.failures))
