"""The replicas of one model, as Ray Serve keeps them on GPUs: ordered, starting, serving, draining, gone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from loadtests.planner.simulation.replica import SimulatedReplica
from serve_app.adapters.adapter import Adapter
from serve_app.autoscaling.standby import orders
from serve_app.config.schema import ModelConfig
from serve_app.engine.simulation.sequence import Sequence as Batched
from serve_app.replica.protocol import DEAD, ReplicaSignals
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.replica import Published
from serve_app.routing.retry import Refused

LEAVES_S = 2.0
"""Ray Serve 2.60 stops offering a replica so long before it tells the replica to end."""


@dataclass(frozen=True)
class Hardware:
    """The GPUs that replicas run on, and how long a replica takes to start there."""

    startup_s: float
    """From ordering a replica to its being ready, s."""
    replicas_per_gpu: int = 1
    gpus: int | None = None
    """How many GPUs there are; None for as many as are asked for."""


@dataclass(eq=False)
class Member:
    """A replica from its order to its end, and the GPU that it holds."""

    id: str
    gpu: int
    state: Literal["starting", "serving", "leaving"] = "starting"
    replica: SimulatedReplica | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Fleet:
    """Keeps as many replicas as it is told to, and tells the pools of them."""

    def __init__(self, model: ModelConfig, hardware: Hardware, pools: Sequence[ReplicaPool]) -> None:
        self.target = 0
        self._model = model
        self._hardware = hardware
        self._pools = pools
        self._members: dict[str, Member] = {}
        self._on_gpu: Counter[int] = Counter()
        self._born = 0
        self._publishing = False
        self._loads_of_gone = 0

    @property
    def serving(self) -> list[SimulatedReplica]:
        return [one.replica for one in self._members.values() if one.state == "serving" and one.replica]

    @property
    def occupied(self) -> int:
        """Replicas that hold a slot: starting, serving and draining."""
        return len(self._members)

    @property
    def gpus(self) -> int:
        """GPUs that hold a replica."""
        return len(self._on_gpu)

    async def answer(
        self,
        id: str,
        prompt_tokens: int,
        output_tokens: int,
        adapter: Adapter | None = None,
        priority: int = 0,
        places: int | None = None,
    ) -> Batched:
        """One request at one replica; raises as `SimulatedReplica.answer` does, and Refused where it has gone."""
        member = self._members.get(id)
        if member is None or member.replica is None:
            raise Refused(DEAD)
        return await member.replica.answer(prompt_tokens, output_tokens, adapter, priority, places)

    @property
    def adapter_loads(self) -> int:
        """Adapters that its replicas have loaded so far."""
        there = sum(one.replica.loads for one in self._members.values() if one.replica)
        return self._loads_of_gone + there

    @property
    def asleep(self) -> int:
        """Replicas that sleep."""
        return sum(one.asleep for one in self.serving)

    def signals(self) -> tuple[ReplicaSignals, ...]:
        """What replicas say to be scaled by, of those that are awake and have reported."""
        awake = (one for one in self.serving if not one.asleep)
        return tuple(said for one in awake if (said := one.signals()) is not None)

    def rest(self, awake: int, now: float) -> None:
        """Have so many of those that serve awake, and the others asleep."""
        wake, sleep = orders(self._pools[0].replicas, awake, len(self.serving) - self.asleep, now)
        by_id = {one.id: one for one in self.serving}
        for replica in wake:
            by_id[replica.id].wake()
        for replica in sleep:
            by_id[replica.id].rest()
        if wake or sleep:
            self._publish()

    def scale(self, target: int, ready: bool = False) -> None:
        """Have so many replicas; the first ones of a fleet may be `ready` at once."""
        self.target = target
        wanted = [one for one in self._members.values() if one.state != "leaving"]
        for one in self._least_missed(wanted)[: max(0, len(wanted) - target)]:
            self._dismiss(one)
        for _ in range(target - len(wanted)):
            if not self._order(0.0 if ready else self._hardware.startup_s):
                break
        if ready:
            for one in self._members.values():
                self._serve(one)

    def report(self) -> None:
        """What happens every REPORT_PERIOD_S: replicas say how they are, pools and autoscaling hear it."""
        for one in self.serving:
            one.sample()
        self._publish()
        self.scale(self.target)

    def _publish_soon(self) -> None:
        """Once for all replicas that come or go at the same time."""
        if not self._publishing:
            self._publishing = True
            asyncio.get_running_loop().call_soon(self._publish)

    def _publish(self) -> None:
        """Tell the pools who serves, and how busy each is."""
        self._publishing = False
        published = [Published(one.id, one.info, one.load()) for one in self.serving]
        for pool in self._pools:
            pool.update(published)

    def _order(self, startup_s: float) -> bool:
        gpu = self._free_slot()
        if gpu is None:
            return False
        self._born += 1
        member = Member(f"{self._born}", gpu)
        self._members[member.id] = member
        self._on_gpu[gpu] += 1
        if startup_s:
            member.task = asyncio.create_task(self._start(member, startup_s))
        return True

    def _free_slot(self) -> int | None:
        """On the fullest GPU with room, so that the others stay free for something else."""
        room = [gpu for gpu, count in self._on_gpu.items() if count < self._hardware.replicas_per_gpu]
        if room:
            return max(room, key=lambda gpu: self._on_gpu[gpu])
        if self._hardware.gpus is not None and len(self._on_gpu) >= self._hardware.gpus:
            return None
        return next(gpu for gpu in range(len(self._on_gpu) + 1) if gpu not in self._on_gpu)

    async def _start(self, member: Member, startup_s: float) -> None:
        await asyncio.sleep(startup_s)
        self._serve(member)

    def _serve(self, member: Member) -> None:
        member.state, member.replica = "serving", SimulatedReplica(member.id, self._model)
        self._publish_soon()

    def _least_missed(self, members: list[Member]) -> list[Member]:
        """Those that do not serve yet first, as Ray Serve has it; then those on the emptiest GPUs, the newest first."""
        return sorted(members, key=lambda one: (one.state == "serving", self._on_gpu[one.gpu], -int(one.id)))

    def _dismiss(self, member: Member) -> None:
        if member.state == "starting":
            if member.task is not None:
                member.task.cancel()
            self._gone(member)
            return
        member.state = "leaving"
        self._publish_soon()
        member.task = asyncio.create_task(self._leave(member))

    async def _leave(self, member: Member) -> None:
        assert member.replica is not None
        await asyncio.sleep(LEAVES_S)
        await member.replica.drain(self._model.drain_timeout_s)
        self._gone(member)

    def _gone(self, member: Member) -> None:
        self._loads_of_gone += member.replica.loads if member.replica else 0
        del self._members[member.id]
        self._on_gpu[member.gpu] -= 1
        if not self._on_gpu[member.gpu]:
            del self._on_gpu[member.gpu]
