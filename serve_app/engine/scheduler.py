"""vLLM's scheduler with less work for Python: what bounds the engine of a small model.

On an H200 a decoding step of 128 sequences of LFM2-1.2B keeps the GPU busy for 1.3 ms and the engine's Python for 8
(py-spy and torch's profiler; `loadtests/measurements/README.md`). Three things make that less:

- A step that holds a prefill cannot run as one CUDA graph, and costs the CPU about twice what a decoding step does.
  Under load each step would hold one, since some request has always just ended. `_PrefillsTogether` lets new
  requests wait for each other for a few steps, unless one is more urgent than what runs.
- In two of three decoding steps, with blocks of 16 tokens, a sequence's new token goes into the middle of a block it
  has, and asking the allocator for room, which takes a third of the step, changes nothing. `_SteadyDecode` does not
  ask.
- The tokens of an answer that is not streamed interest nobody before it is complete, but each step would carry them
  from the engine's process to the server's. `_WholeAnswers` keeps them for a while.

The scheduler is not a stable interface of vLLM; this module follows 0.32's.
"""

from __future__ import annotations

import time
from typing import Any

from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus

from serve_app.engine.structured import continued, guard  # noqa: F401

HOLD_MOST_S = 0.03
"""How long a request may wait for others to be prefilled with: hardly felt in a time to first token."""
HOLD_FROM_RUNNING = 32
"""Sequences from which on it pays: with fewer, steps are short whatever they hold."""
HOLD_SHARE = 1 / 8
"""Requests waiting, as a share of those running, that are enough: each is a place in the batch that stands idle."""
HOLD_TOKENS = 2048
"""Prompt tokens waiting that are enough: their prefill is long beside what a graph would have saved."""

KEPT_MOST = 32
"""Tokens of one answer that wait for those to come: few enough for the server's count of tokens to be a rate."""

SETTLED_TOKENS = 4
"""How far from where a block begins the allocator is done with the one before.

It frees and caches by tokens that have come back from the GPU, and two steps may be under way."""


class _SteadyDecode(Scheduler):
    """Asks for a slot only when that may change something."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        manager = self.kv_cache_manager
        sizes = {one.block_size for one in manager.coordinator.single_type_managers}
        sizes.add(manager.block_pool.hash_block_size)
        self._block = min(sizes)
        nested = all(size % self._block == 0 for size in sizes)
        if nested and self.connector is None and not self.num_lookahead_tokens:
            self._ask = manager.allocate_slots
            manager.allocate_slots = self._slots

    def _slots(self, request: Request, num_new_tokens: int, *args: Any, **kwargs: Any) -> Any:
        if num_new_tokens == 1 and self._has_room(request):
            return self.kv_cache_manager.empty_kv_cache_blocks
        return self._ask(request, num_new_tokens, *args, **kwargs)

    def _has_room(self, request: Request) -> bool:
        """Whether its next token lies inside a block about which all is settled.

        Of one that was preempted it is not known where its second prefill ended.
        """
        computed = request.num_computed_tokens
        return (
            SETTLED_TOKENS <= computed % self._block < self._block - 1
            and computed >= request.num_prompt_tokens + SETTLED_TOKENS
            and request.status is RequestStatus.RUNNING
            and not request.num_preemptions
        )


class _PrefillsTogether(Scheduler):
    """Holds new requests back for a few steps, so that their prefills share one."""

    _pause_state: PauseState
    _holding_since: float | None = None

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        if self._pause_state is not PauseState.UNPAUSED or not self._hold(time.monotonic()):
            return super().schedule(throttle_prefills)
        self._pause_state = PauseState.PAUSED_NEW
        try:
            return super().schedule(throttle_prefills)
        finally:
            self._pause_state = PauseState.UNPAUSED

    def _hold(self, now: float) -> bool:
        if self.waiting and not (self._inflight_prefills or self._enough_wait() or self._urgent_waits()):
            if self._holding_since is None:
                self._holding_since = now
            if now - self._holding_since < HOLD_MOST_S:
                return True
        self._holding_since = None
        return False

    def _enough_wait(self) -> bool:
        running = len(self.running)
        if running < HOLD_FROM_RUNNING or len(self.waiting) >= HOLD_SHARE * running:
            return True
        return sum(request.num_tokens for request in self.waiting) >= HOLD_TOKENS

    def _urgent_waits(self) -> bool:
        """Whether the first in the queue goes before something that runs, as a person's request before a batch's."""
        first = self.waiting.peek_request().priority
        return any(first < request.priority for request in self.running)


class _WholeAnswers(Scheduler):
    """Hands over an answer that is not streamed in few parts: its first token, which is measured, and then many."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept: dict[str, list[int]] = {}

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        for of_client in outputs.values():
            of_client.outputs = [one for one in of_client.outputs if not self._keep(one)]
        return outputs

    def finish_requests(self, *args: Any, **kwargs: Any) -> list[Request]:
        finished = super().finish_requests(*args, **kwargs)
        for request in finished:
            self._kept.pop(request.request_id, None)
        return finished

    def _keep(self, output: EngineCoreOutput) -> bool:
        """Whether its tokens wait for those to come; it carries those that waited otherwise."""
        kept = self._kept.get(output.request_id)
        if kept is None:
            request = self.requests.get(output.request_id)
            if request is not None and not output.finished and _whole(request.sampling_params, output):
                self._kept[output.request_id] = []
            return False
        kept += output.new_token_ids
        if not (output.finished or output.events or len(kept) >= KEPT_MOST):
            return True
        output.new_token_ids = kept
        if output.finished:
            del self._kept[output.request_id]
        else:
            self._kept[output.request_id] = []
        return False


def _whole(params: SamplingParams | None, first: EngineCoreOutput) -> bool:
    """Whether the server needs nothing sooner: it has no stop string to look for, and nothing comes with each token."""
    return (
        params is not None
        and params.output_kind is RequestOutputKind.FINAL_ONLY
        and not params.stop
        and params.logprobs is None
        and first.new_sampling_mask is None
    )


class CpuScheduler(_WholeAnswers, _SteadyDecode):
    """For vLLM's CPU build, where a prefill costs no graph."""


class GpuScheduler(_WholeAnswers, _PrefillsTogether, _SteadyDecode, AsyncScheduler):
    """For GPUs, with asynchronous scheduling."""
