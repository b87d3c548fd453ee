"""What a simulated replica says of itself."""

from __future__ import annotations

import asyncio

from loadtests.planner.simulation.replica import SimulatedReplica
from tests.unit.loadtests.planner.simulation.scenarios import scenario


async def test_a_replica_that_drains_says_so() -> None:
    replica = SimulatedReplica("r", scenario().model)
    open_request = asyncio.create_task(replica.answer(8, 4))
    await asyncio.sleep(0)
    assert (replica.load().in_flight, replica.load().interactive, replica.load().draining) == (1, 0, False)
    drained = asyncio.create_task(replica.drain(10))
    await asyncio.sleep(0)
    assert (replica.load().in_flight, replica.load().interactive, replica.load().draining) == (1, 0, True)
    await drained
    assert open_request.done()
