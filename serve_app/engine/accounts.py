"""What a request has had of vLLM, for its account, and what its key sets as bounds, vLLM 0.32.

All sequences come through the output processor's `add_request`, whose state of each knows the engine's own counts; all
requests come through the input processor's `assign_request_id` once, as the engine will see them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from vllm.exceptions import VLLMValidationError

from serve_app.engine.continuing import telling
from serve_app.replica.ledger import Timing, Used, current


def install(llm: Any) -> None:
    """To be called before the first request."""
    outputs, inputs = llm.output_processor, llm.input_processor
    add, assign = outputs.add_request, inputs.assign_request_id

    def add_request(request: Any, prompt: Any, parent_req: Any, request_index: int, queue: Any) -> None:
        add(request, prompt, parent_req, request_index, queue)
        if (account := current.get(None)) is not None:
            state = outputs.request_states[request.request_id]
            one = telling.get()
            said = len(one.said.tokens) if one is not None and one.said is not None else 0
            # Of several answers to one prompt, the first has the prompt; of one that goes on, who began it.
            account.sequences.append(partial(used, state, has_prompt=request_index == 0 and not said, said=said))
            if not said:
                account.timings.append(partial(timing, state))

    def assign_request_id(request: Any) -> None:
        if (account := current.get(None)) is not None:
            if reason := account.prompt_refusal(len(request.prompt_token_ids or ())):
                raise VLLMValidationError(reason)
            if account.most_output is not None and (params := request.sampling_params) is not None:
                params.max_tokens = min(params.max_tokens or account.most_output, account.most_output)
                params.min_tokens = min(params.min_tokens, params.max_tokens)
        assign(request)

    outputs.add_request, inputs.assign_request_id = add_request, assign_request_id


def used(state: Any, *, has_prompt: bool, said: int = 0) -> Used:
    """What a sequence has had here, from vLLM's state of it, if another replica has said so many of its tokens."""
    if state.is_prefilling:
        return Used()
    output = max(0, state.detokenizer.num_output_tokens() - said) if state.detokenizer is not None else 0
    return Used(state.prompt_len, state.num_cached_tokens, output) if has_prompt else Used(output=output)


def timing(state: Any) -> Timing | None:
    """When a sequence had its tokens, from vLLM's statistics of it."""
    stats = state.stats
    if stats is None or not stats.first_token_ts or state.detokenizer is None:
        return None
    first = stats.arrival_time + stats.first_token_latency
    return Timing(first, stats.last_token_ts - stats.first_token_ts, stats.num_generation_tokens - 1)
