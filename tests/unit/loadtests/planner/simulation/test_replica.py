"""What a simulated replica says of itself."""

from __future__ import annotations

import asyncio

from loadtests.planner.simulation.replica import SimulatedReplica
from serve_app.adapters.adapter import Adapter
from serve_app.config.adapters import AdaptersConfig
from tests.unit.loadtests.planner.simulation.scenarios import TIMING, scenario


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


async def test_an_adapter_is_loaded_before_its_first_request_and_holds_up_the_others() -> None:
    own = AdaptersConfig(max_loaded=1, directory="/")
    timing = TIMING.model_copy(
        update={"step_base_ms": 1.0, "step_per_sequence_ms": 0.0, "adapter_load_ms": 0.0, "adapter_stall_ms": 80.0}
    )
    replica = SimulatedReplica("r", scenario(adapters=own).model.model_copy(update={"simulated": timing}))
    plain = asyncio.create_task(replica.answer(8, 20))
    await asyncio.sleep(0)
    adapted = [await replica.answer(8, 1, Adapter(id, id)) for id in ("a", "a", "b")]
    assert replica.load().adapters == ("b",) and replica.loads == 2
    assert (await plain).service_s >= 0.08
    assert all(one.first_token_at is not None for one in adapted)
