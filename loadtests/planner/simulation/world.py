"""One run of a service in virtual time: arrivals, ingresses with pools of their own, replicas, and who scales them.

`simulate` is what the rest of the package calls; a SimulationScenario goes in, a SimulationRun comes out.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, count, cycle
from random import Random

from loadtests.loadgen.lengths import Lengths
from loadtests.loadgen.traffic import Traffic
from loadtests.planner.simulation import clock
from loadtests.planner.simulation.fleet import Fleet, Hardware
from loadtests.planner.simulation.scalers import Scaler
from loadtests.results.record import Outcome, Record
from loadtests.results.replicas import ReplicaCounts
from serve_app.adapters.adapter import Adapter
from serve_app.autoscaling.coming import StartupWatch
from serve_app.autoscaling.policy import Observation
from serve_app.autoscaling.refused import RefusedRate
from serve_app.autoscaling.standby import in_all
from serve_app.config.schema import IngressConfig, ModelConfig, Simulated
from serve_app.engine.simulation.sequence import Sequence
from serve_app.http.errors import ApiError
from serve_app.replica.ledger import Account
from serve_app.replica.protocol import REPORT_PERIOD_S
from serve_app.routing.claim import Claim
from serve_app.routing.expected_wait import Coming
from serve_app.routing.fair_share import BYTES_PER_TOKEN
from serve_app.routing.pickers import PICKERS
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from serve_app.routing.replica import Replica
from serve_app.routing.retry import BrokenOff, with_retries

OnProgress = Callable[[float], object]
"""Called every REPORT_PERIOD_S with the share of the traffic that has passed, 0 to 1."""


@dataclass(frozen=True)
class SimulatedClient:
    """Who asks, how often and for what."""

    name: str
    traffic: Traffic
    lengths: Lengths
    key: str = ""
    """The name of the key it shows; clients may share one."""
    weight: float = 1.0
    """The key's."""
    batch: bool = False
    """Whether it asks for batch work."""


@dataclass(frozen=True)
class SimulationScenario:
    """What is simulated, except for the policy that scales."""

    model: ModelConfig
    """Its `simulated` timing, limits and autoscaling bounds."""
    traffic: Traffic
    lengths: Lengths
    hardware: Hardware
    ingress: IngressConfig = field(default_factory=IngressConfig)
    adapters: Mapping[str, float] = field(default_factory=dict)
    """Ids of adapters, and how often each is asked; without them requests are for the model itself."""
    path_s: float = 0.0
    """Added to each request's TTFT, s: the way through proxy, ingress and servers."""
    seed: int = 0
    others: tuple[SimulatedClient, ...] = ()
    """Clients beside the one without a name, whose traffic and lengths are the scenario's."""

    @property
    def first_replicas(self) -> int:
        """Replicas that are ready at the start, where the scaler does not say otherwise."""
        bounds = self.model.autoscaling
        if bounds is None:
            return self.model.replicas or 1
        return bounds.min_replicas if bounds.initial_replicas is None else bounds.initial_replicas


@dataclass
class SimulationRun:
    """What a simulated service did under its traffic."""

    records: list[Record] = field(default_factory=list)
    """In order of their ends, each with its client's name as its scenario."""
    samples: list[ReplicaCounts] = field(default_factory=list)
    """Every REPORT_PERIOD_S."""
    gpus: list[int] = field(default_factory=list)
    """GPUs that held a replica, at each sample."""
    until_s: float = 0.0
    """How far it came: the traffic's duration, unless it was interrupted."""
    adapter_loads: int = 0
    """How often a replica loaded an adapter."""


def simulate(scenario: SimulationScenario, scaler: Scaler, progress: OnProgress = lambda share: None) -> SimulationRun:
    """All of the traffic, to the end of its last request.

    Ctrl-C ends it early with what there is: `until_s` of the run is then less than the traffic's duration. What else
    goes wrong in a request's task is raised here.
    """
    run = SimulationRun()
    logger = logging.getLogger("ray.serve")
    thresholds, level = gc.get_threshold(), logger.level
    # Millions of requests live at a time and none is in a cycle: looking for cycles took a third of the time.
    gc.set_threshold(200_000, 20, 100)
    # Engines say there what they load, thousands of times here.
    logger.setLevel(logging.WARNING)
    try:
        clock.run(_Simulator(scenario, scaler, run).run(progress))
    except KeyboardInterrupt:
        run.until_s = run.samples[-1].at_s if run.samples else 0.0
    finally:
        gc.set_threshold(*thresholds)
        logger.setLevel(level)
    return run


def arrivals_rng(seed: object) -> Random:
    """What a scenario's arrivals are drawn with, so that an oracle can draw the very same beforehand."""
    return Random(f"{seed} arrivals")


class _Source:
    """A client's requests, as they come."""

    def __init__(self, client: SimulatedClient, seed: object) -> None:
        self.client = client
        self.arrivals = client.traffic.arrivals(arrivals_rng(seed))
        self._lengths = Random(f"{seed} lengths")
        self._drawn = 0

    def draw(self) -> tuple[int, int]:
        """Tokens of the next one's prompt and answer."""
        self._drawn += 1
        return self.client.lengths.draw(self._lengths, self._drawn - 1)


class _Simulator:
    """One run while it lasts; must be run on the virtual event loop."""

    def __init__(self, scenario: SimulationScenario, scaler: Scaler, run: SimulationRun) -> None:
        self._scenario = scenario
        self._scaler = scaler
        self._run = run
        timing = scenario.model.simulated or Simulated()
        self._context = min(timing.max_model_len, timing.kv_tokens)
        self._adapters = [Adapter(id, id) for id in scenario.adapters]
        self._weights = list(accumulate(scenario.adapters.values()))
        self._asked = Random(f"{scenario.seed} adapters")
        self._open = 0
        """Requests that have arrived, or are about to, and have not ended."""

    async def run(self, progress: OnProgress) -> None:
        scenario = self._scenario
        self._loop = asyncio.get_running_loop()
        self._all_ended = self._loop.create_future()
        limits = scenario.ingress
        self._pools = [
            ReplicaPool(
                scenario.model.id,
                QueueLimits(limits.max_waiting, limits.wait_timeout_s, limits.start_timeout_s, limits.replicas),
                PICKERS[scenario.model.routing_policy](Random(f"{scenario.seed} pool {i}")),
                clock=self._loop.time,
            )
            for i in range(limits.replicas)
        ]
        self._fleet = Fleet(scenario.model, scenario.hardware, self._pools)
        first = self._scaler.first
        self._fleet.scale((scenario.first_replicas if first is None else first) + self._scaler.standby, ready=True)
        self._next_pool = cycle(self._pools)
        sources = [_Source(SimulatedClient("", scenario.traffic, scenario.lengths), scenario.seed)]
        sources += [_Source(one, f"{scenario.seed} {one.name}") for one in scenario.others]
        for source in sources:
            self._await_next(source)
        control = asyncio.create_task(self._control(progress))
        await asyncio.wait((control, self._all_ended), return_when=asyncio.FIRST_COMPLETED)
        if self._all_ended.done():
            self._all_ended.result()
        await control
        self._run.until_s = scenario.traffic.duration_s
        self._run.adapter_loads = self._fleet.adapter_loads

    async def _control(self, progress: OnProgress) -> None:
        """Reports and decisions every REPORT_PERIOD_S, to the end of the traffic and of its last request."""
        fleet, duration = self._fleet, self._scenario.traffic.duration_s
        refused, startup = RefusedRate(), StartupWatch(self._scenario.hardware.startup_s)
        settings, standby = self._scenario.model.autoscaling, self._scaler.standby
        awake = fleet.target - standby
        for i in count(1):
            now = self._loop.time()
            queued = sum(pool.queue.waiting for pool in self._pools)
            refused_per_s = refused.add(now, sum(pool.queue.refused.total() for pool in self._pools))
            up = len(fleet.serving) - fleet.asleep
            seen = Observation(now, fleet.signals(), max(awake, up) if standby else fleet.target, queued, refused_per_s)
            awake = self._scaler.decide(seen)
            target = in_all(settings, awake, up, fleet.target) if standby and settings else awake
            if target != fleet.target:
                fleet.scale(target)
            if standby:
                fleet.rest(awake, now)
            missing, in_s = awake - up, startup.ready_in_s(now, target, len(fleet.serving))
            for pool in self._pools:
                pool.queue.coming = None if in_s is None or missing <= 0 else Coming(missing, now + in_s)
            waiting = queued + sum(one.waiting for one in seen.replicas)
            counts = ReplicaCounts(now, awake, up, fleet.occupied, waiting, asleep=fleet.asleep)
            self._run.samples.append(counts)
            self._run.gpus.append(fleet.gpus)
            progress(min(1.0, now / duration))
            if now >= duration and self._all_ended.done():
                return
            await asyncio.sleep(i * REPORT_PERIOD_S - now)
            fleet.report()

    def _await_next(self, source: _Source) -> None:
        at = next(source.arrivals, None)
        if at is not None:
            self._open += 1
            self._loop.call_at(at, self._arrive, source, at)
        else:
            self._check_end()

    def _arrive(self, source: _Source, at: float) -> None:
        prompt, output = source.draw()
        adapter = self._asked.choices(self._adapters, cum_weights=self._weights)[0] if self._adapters else None
        request = self._request(source.client, at, prompt, output, adapter, next(self._next_pool))
        self._loop.create_task(request)
        self._await_next(source)

    def _check_end(self) -> None:
        if not self._open and not self._all_ended.done():
            self._all_ended.set_result(None)

    async def _request(
        self,
        client: SimulatedClient,
        at: float,
        prompt: int,
        output: int,
        adapter: Adapter | None,
        pool: ReplicaPool,
    ) -> None:
        answered: Sequence | None = None
        expected = pool.shares.expected(client.key, BYTES_PER_TOKEN * prompt, 1, batch=client.batch)
        claim = Claim(
            batch=client.batch,
            adapter=None if adapter is None else adapter.id,
            client=client.key,
            weight=client.weight,
            tokens=expected,
        )

        async def attempt(replica: Replica, places: int | None) -> None:
            nonlocal answered
            account = Account(client.key, batch=client.batch, light=pool.shares.is_light(claim))
            answered = await self._fleet.answer(replica.id, prompt, output, adapter, account.priority, places)
            pool.shares.settle(claim, prompt + output)

        detail = ""
        outcome: Outcome = "ok"
        try:
            if prompt + output > self._context:
                raise ApiError(400, "longer than the context", code="context_length_exceeded")
            await with_retries(pool, attempt, claim)
        except ApiError as error:
            outcome, detail = ("refused" if error.status in (429, 503) else "failed"), f"{error.status} {error.code}"
        except BrokenOff as error:
            outcome, detail = "failed", str(error)
        except Exception as error:
            if not self._all_ended.done():
                self._all_ended.set_exception(error)
            raise
        first_at, ended_at = None, self._loop.time()
        if answered is not None and answered.first_token_at is not None and answered.ended_at is not None:
            first_at, ended_at = answered.first_token_at, answered.ended_at
        path_s = self._scenario.path_s
        self._run.records.append(
            Record(
                scheduled_s=at,
                sent_s=at,
                ttft_s=None if first_at is None else first_at - at + path_s,
                latency_s=ended_at - at + path_s,
                prompt_tokens=prompt,
                output_tokens=output if outcome == "ok" else 0,
                outcome=outcome,
                detail=detail,
                model="" if adapter is None else adapter.id,
                scenario=client.name,
            )
        )
        self._open -= 1
        self._check_end()
