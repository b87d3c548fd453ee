"""One simulated replica: the simulated engine's batch behind admission control, on the event loop's clock."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import fields
from operator import attrgetter

from serve_app.adapters.adapter import Adapter
from serve_app.config.schema import ModelConfig, Simulated
from serve_app.engine.adapters.loaded import LoadedAdapters
from serve_app.engine.meter import BUCKET_S, Meter
from serve_app.engine.simulation.batch import SimulatedBatch
from serve_app.engine.simulation.loader import SimulatedLoader
from serve_app.engine.simulation.sequence import Sequence
from serve_app.replica.protocol import (
    CROWDED,
    DRAINING,
    FULL,
    LOOK_BACK_S,
    REPORT_PERIOD_S,
    ReplicaInfo,
    ReplicaLoad,
    ReplicaSignals,
)
from serve_app.routing.retry import BrokenOff, Refused

SIGNALS = tuple(one.name for one in fields(ReplicaSignals))
_values = attrgetter(*SIGNALS)


class SimulatedReplica:
    """Answers requests as fast as its timing says; must be made on a running event loop."""

    def __init__(self, id: str, model: ModelConfig) -> None:
        timing = model.simulated or Simulated()
        self.id = id
        self.info = ReplicaInfo(
            model=model.id,
            url=id,
            token="",
            capacity=model.capacity,
            max_running=model.max_running,
            max_model_len=min(timing.max_model_len, timing.kv_tokens),
            max_adapters=model.adapters.max_loaded if model.adapters else 0,
            created=0,
        )
        self.in_flight = 0
        """Sequences, of which each of its requests is one."""
        self.draining = False
        self.asleep = False
        self._wake_s = timing.wake_s
        self._awake_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._batch = SimulatedBatch(timing, model.max_running, model.max_queued)
        loader = SimulatedLoader(self._stall, timing)
        self.adapters = LoadedAdapters(model.adapters.max_loaded, loader) if model.adapters else None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._open: dict[asyncio.Future[None], Sequence] = {}
        self._idle = asyncio.Event()
        self._meter = Meter()
        self._metered_tokens = 0
        self._accepted = 0
        self._ttfts_s: list[float] = []
        self._services_s: list[float] = []
        self._samples: deque[tuple[float, ...]] = deque(maxlen=round(LOOK_BACK_S / REPORT_PERIOD_S))

    async def answer(
        self,
        prompt_tokens: int,
        output_tokens: int,
        adapter: Adapter | None = None,
        priority: int = 0,
        places: int | None = None,
    ) -> Sequence:
        """The sequence once it has ended; the adapter it is for is loaded before it begins, `priority` is the engine's,
        `places` what is asked of its batch.

        Raises Refused as `AdmissionControl` refuses, BrokenOff when it was cut off.
        """
        if self.draining:
            raise Refused(DRAINING)
        if self.in_flight >= self.info.capacity:
            raise Refused(FULL)
        if places is not None and self.in_flight >= places:
            raise Refused(CROWDED)
        self.wake()
        if (left_s := self._awake_at - self._loop.time()) > 0:
            await asyncio.sleep(left_s)
        self.in_flight += 1
        self._accepted += 1
        try:
            if adapter is None or self.adapters is None:
                return await self._made(prompt_tokens, output_tokens, priority)
            async with self.adapters.use(adapter):
                return await self._made(prompt_tokens, output_tokens, priority)
        finally:
            self.in_flight -= 1
            if self.draining and not self.in_flight:
                self._idle.set()

    async def _made(self, prompt_tokens: int, output_tokens: int, priority: int) -> Sequence:
        """A sequence once it has ended."""
        now = self._loop.time()
        self._advance(now)
        done: asyncio.Future[None] = self._loop.create_future()
        sequence = self._batch.submit(now, prompt_tokens, output_tokens, tag=done, priority=priority)
        self._arm()
        self._open[done] = sequence
        try:
            await done
        finally:
            del self._open[done]
        return sequence

    async def _stall(self, seconds: float) -> None:
        now = self._loop.time()
        self._advance(now)
        until = self._batch.stall(now, seconds)
        self._arm()
        await asyncio.sleep(until - now)

    @property
    def loads(self) -> int:
        """Adapters loaded so far."""
        return self.adapters.counts.loads.total() if self.adapters else 0

    def rest(self) -> None:
        """Sleep, as soon as nothing is open."""
        self.asleep = True

    def wake(self) -> None:
        """Be awake a moment later."""
        if self.asleep:
            self.asleep, self._awake_at = False, self._loop.time() + self._wake_s

    def load(self) -> ReplicaLoad:
        """What it says to be picked by."""
        batch = self._batch
        return ReplicaLoad(
            running=batch.running,
            waiting=batch.waiting,
            kv_usage=batch.kv_usage,
            in_flight=self.in_flight,
            draining=self.draining,
            asleep=self.asleep,
            adapters=self.adapters.ids if self.adapters else (),
            adapter_requests=dict(self.adapters.counts.open) if self.adapters else {},
        )

    def sample(self) -> None:
        """Note its signals; to be called every REPORT_PERIOD_S."""
        now = self._loop.time()
        self._advance(now)
        batch, meter = self._batch, self._meter
        # A bucket of the meter takes what came since the last sample; just before its end the window is a whole one.
        at = now + 0.99 * BUCKET_S
        meter.add(at, batch.tokens - self._metered_tokens, self._ttfts_s, self._services_s, self._accepted)
        self._metered_tokens, self._accepted = batch.tokens, 0
        self._ttfts_s.clear()
        self._services_s.clear()
        signals = ReplicaSignals(
            running=batch.running,
            waiting=max(batch.waiting, self.in_flight - batch.running),
            kv_usage=batch.kv_usage,
            output_tokens_per_s=meter.output_tokens_per_s(at),
            ttft_s=meter.ttft_s(at),
            arrivals_per_s=meter.arrivals_per_s(at),
            service_s=meter.service_s(at),
            asleep=float(self.asleep),
        )
        self._samples.append(_values(signals))

    def signals(self) -> ReplicaSignals | None:
        """What it says to be scaled by: the mean of its samples over LOOK_BACK_S; None before the first."""
        count = len(self._samples)
        if not count:
            return None
        means = (sum(values) / count for values in zip(*self._samples, strict=True))
        return ReplicaSignals(**dict(zip(SIGNALS, means, strict=True)))

    async def drain(self, timeout_s: float) -> None:
        """Refuse new requests and wait for the open ones; cut off those that remain after `timeout_s`."""
        self.draining = True
        if not self.in_flight:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            self._advance(self._loop.time())
            for done, sequence in list(self._open.items()):
                if not done.done():
                    self._batch.cancel(self._loop.time(), sequence)
                    done.set_exception(BrokenOff("cut off by the end of the drain"))

    def _advance(self, now: float) -> None:
        firsts, ended = self._batch.leap(now)
        for sequence in firsts:
            assert sequence.first_token_at is not None
            self._ttfts_s.append(sequence.first_token_at - sequence.submitted_at)
        for sequence in ended:
            self._services_s.append(sequence.service_s)
            if not sequence.tag.done():
                sequence.tag.set_result(None)

    def _arm(self) -> None:
        at = self._batch.next_change_at
        if at is None or at >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._tick)

    def _tick(self) -> None:
        at, self._timer, self._timer_at = self._timer_at, None, float("inf")
        self._advance(at)
        self._arm()
