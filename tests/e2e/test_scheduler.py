"""Our schedulers over vLLM's own scheduler, allocator and prefix cache, with a model whose answers are made up.

Two steps are under way at a time, as on a GPU, and the KV cache is LFM2's there: attention and convolution state in
blocks of 16 tokens.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from vllm.engine.arg_utils import EngineArgs
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec, MambaSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

import serve_app
from serve_app.engine import scheduler as ours

BLOCK = 16
DEMO = str(Path(serve_app.__file__).parent / "demo" / "lfm2-demo")


class Checked(ours.GpuScheduler):
    """Asks also when it need not, and looks at whether that changed anything."""

    skipped = asked = 0

    def _slots(self, request: Request, num_new_tokens: int, *args: Any, **kwargs: Any) -> Any:
        if num_new_tokens != 1 or not self._has_room(request):
            self.asked += 1
            return super()._slots(request, num_new_tokens, *args, **kwargs)
        self.skipped += 1
        before = self._state_of(request)
        blocks = self._ask(request, num_new_tokens, *args, **kwargs)
        assert not any(blocks.blocks) and self._state_of(request) == before, request.num_computed_tokens
        return blocks

    def _state_of(self, request: Request) -> Any:
        id, manager = request.request_id, self.kv_cache_manager
        of_groups = [
            (
                [(block.block_id, block.block_hash, block.ref_cnt) for block in group.req_to_blocks[id]],
                group.num_cached_block.get(id),
                getattr(group, "last_state_block_idx", {}).get(id),
                getattr(group, "_num_retired_blocks", {}).get(id),
                len(getattr(group, "cached_blocks_this_step", ())),
            )
            for group in manager.coordinator.single_type_managers
        ]
        return of_groups, manager.block_pool.get_num_free_blocks()


@pytest.fixture(scope="module")
def scheduler() -> Callable[..., Any]:
    args = EngineArgs(
        model=DEMO,
        max_num_seqs=64,
        max_num_batched_tokens=512,
        max_model_len=2048,
        scheduling_policy="priority",
        enforce_eager=True,
    )
    config = args.create_engine_config()
    # vLLM's CPU build turns it off; the scheduler itself knows nothing of hardware.
    config.scheduler_config.async_scheduling = True
    config.cache_config.block_size = BLOCK
    config.cache_config.mamba_cache_mode = "align"
    init_none_hash(sha256)

    def build(kind: type[Any], blocks: int) -> Any:
        attention = FullAttentionSpec(block_size=BLOCK, num_kv_heads=1, head_size=64, dtype=torch.bfloat16)
        state = MambaSpec(
            block_size=BLOCK,
            shapes=((2, 128),),
            dtypes=(torch.bfloat16,),
            page_size_padded=attention.page_size_bytes,
            mamba_cache_mode="align",
        )
        groups = [KVCacheGroupSpec(["conv"], state), KVCacheGroupSpec(["attn"], attention)]
        cache = KVCacheConfig(num_blocks=blocks, kv_cache_tensors=[], kv_cache_groups=groups)
        config.cache_config.num_gpu_blocks = blocks
        return kind(
            vllm_config=config,
            kv_cache_config=cache,
            structured_output_manager=StructuredOutputManager(config),
            block_size=BLOCK,
            hash_block_size=BLOCK,
        )

    return build


def requests(count: int, seed: int) -> list[Request]:
    """Prompts that share beginnings of several lengths, and answers of several."""
    rng = random.Random(seed)
    common = [rng.randrange(10, 200) for _ in range(300)]
    hasher = get_request_block_hasher(BLOCK, sha256)
    made = []
    for number in range(count):
        own = [rng.randrange(10, 200) for _ in range(rng.randrange(1, 90))]
        sampling = SamplingParams(max_tokens=rng.randrange(1, 120), ignore_eos=True)
        sampling.update_from_generation_config({}, 7)
        prompt = common[: rng.choice([0, BLOCK, 100, 299])] + own
        made.append(Request(f"{seed}-{number}", prompt, sampling, None, block_hasher=hasher))
    return made


def run(scheduler: Any, arriving: deque[Request], a_step: int) -> list[int]:
    """Serve them all, so many more at each step; tokens scheduled in each step."""
    rng = random.Random(5)
    under_way: deque[Any] = deque()
    scheduled: list[int] = []
    lengths: dict[str, int] = {}
    while arriving or scheduler.has_requests() or under_way:
        for _ in range(min(a_step, len(arriving))):
            scheduler.add_request(arriving.popleft())
        if scheduler.has_requests():
            step = scheduler.schedule()
            under_way.append((step, list(step.num_scheduled_tokens)))
            scheduled.append(step.total_num_scheduled_tokens)
        if len(under_way) == 2 or not scheduler.has_requests():
            for one in complete(scheduler, *under_way.popleft(), rng):
                lengths[one.request_id] = lengths.get(one.request_id, 0) + len(one.new_token_ids)
        assert len(scheduled) < 20_000
    scheduler.lengths = lengths
    return scheduled


def complete(scheduler: Any, step: Any, ids: list[str], rng: random.Random) -> list[Any]:
    """The outputs of a step in which the model answered something."""
    sampled = []
    for id in ids:
        request = scheduler.requests.get(id)
        at_end = request is not None and not request.is_prefill_chunk
        sampled.append([rng.randrange(10, 200)] if at_end else [])
    output = ModelRunnerOutput(ids, {id: n for n, id in enumerate(ids)}, sampled)
    return [one for outputs in scheduler.update_from_output(step, output).values() for one in outputs.outputs]


@pytest.mark.parametrize("blocks", [4000, 500, 150])
def test_a_decoding_step_that_does_not_ask_for_a_slot_would_have_got_none(
    scheduler: Callable[..., Any], blocks: int
) -> None:
    checked = scheduler(Checked, blocks)
    wanted = requests(150, 1) + requests(150, 2)
    run(checked, deque(wanted), 2)
    assert checked.lengths == {one.request_id: one.max_tokens for one in wanted}
    assert min(checked.skipped, checked.asked) > 1000


def test_requests_under_load_are_prefilled_together_and_none_waits_for_ever(scheduler: Callable[..., Any]) -> None:
    mixed = {}
    for kind in (AsyncScheduler, ours.GpuScheduler):
        one = scheduler(kind, 4000)
        wanted = requests(400, 3)
        steps = run(one, deque(wanted), 1)
        assert one.lengths == {request.request_id: request.max_tokens for request in wanted}
        mixed[kind] = sum(tokens > one.max_num_running_reqs for tokens in steps)
    assert mixed[ours.GpuScheduler] < mixed[AsyncScheduler]


def test_a_person_does_not_wait_for_others_to_be_prefilled_with_while_a_batch_runs(
    scheduler: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, rng = scheduler(ours.GpuScheduler, 4000), random.Random(5)
    *running, held = requests(41, 4)
    for request in (*running, held):
        request.priority, request.max_tokens = 10, 1000
    (urgent,) = requests(1, 5)

    def begun() -> set[str]:
        step = one.schedule()
        complete(one, step, list(step.num_scheduled_tokens), rng)
        return {new.req_id for new in step.scheduled_new_reqs}

    monkeypatch.setattr(ours, "HOLD_MOST_S", 0.0)
    for request in running:
        one.add_request(request)
    while one.waiting or one._inflight_prefills:
        begun()
    monkeypatch.setattr(ours, "HOLD_MOST_S", 3600.0)
    one.add_request(held)
    assert not begun()
    one.add_request(urgent)
    assert urgent.request_id in begun()


@pytest.mark.parametrize("blocks", [4000, 150])
def test_an_answer_that_is_not_streamed_comes_in_few_parts_with_every_token(
    scheduler: Callable[..., Any], blocks: int
) -> None:
    wanted = requests(100, 6)
    whole, streamed, stopped, given_up = wanted[::4], wanted[1::4], wanted[2::4], wanted[3::4]
    for request in (*whole, *stopped, *given_up):
        request.sampling_params.output_kind = RequestOutputKind.FINAL_ONLY
    for request in stopped:
        request.sampling_params.stop = ["a word that only the server can look for"]
    for request in given_up:
        request.max_tokens = 1000
    one, rng = scheduler(ours.GpuScheduler, blocks), random.Random(6)
    parts: dict[str, list[list[int]]] = {request.request_id: [] for request in wanted}
    preemptions = 0
    for request in wanted:
        one.add_request(request)
    while one.has_requests():
        step = one.schedule()
        preemptions += len(step.preempted_req_ids or ())
        for output in complete(one, step, list(step.num_scheduled_tokens), rng):
            parts[output.request_id].append(output.new_token_ids)
        if all(request.is_finished() for request in (*whole, *streamed, *stopped)):
            one.finish_requests([request.request_id for request in given_up], RequestStatus.FINISHED_ABORTED)
    for request in (*whole, *streamed, *stopped):
        assert [*chain(*parts[request.request_id])] == list(request.output_token_ids)
    assert all(len(part) == 1 for request in (*streamed, *stopped) for part in parts[request.request_id])
    counts = sum(len(parts[request.request_id]) for request in whole)
    assert counts <= sum(2 + request.max_tokens // ours.KEPT_MOST for request in whole) + preemptions
    assert not one._kept
