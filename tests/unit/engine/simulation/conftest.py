"""Simulated engines that answer, one that is quick and one that is soon full."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.engine.simulation.replica import FAST, Replica, served


@pytest.fixture
async def replica() -> AsyncIterator[Replica]:
    async with served() as started:
        yield started


@pytest.fixture
async def slow() -> AsyncIterator[Replica]:
    """Two places and one in the queue; nothing ends by itself."""
    async with served(FAST | {"step_base_ms": 20}, max_running=2, max_queued=1) as started:
        yield started
