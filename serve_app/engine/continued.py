"""vLLM's engine client goes on with answers that another replica has begun, and tells what its own are made of.

What was said is given to the application once more, output by output as it was, so that its parsers, counts and the
search for stop strings are where they were; then the engine goes on behind the prompt and what was said. The front's
state of a request (`RequestState`) and the engine's request are made as vLLM 0.32 makes them, which may move.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from copy import copy
from typing import Any

from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine import FINISH_REASON_STRINGS, EngineCoreRequest, FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.output_processor import RequestOutputCollector, RequestState

from serve_app.engine.continuing import Telling, telling
from serve_app.engine.structured.continued import SAID_TOKENS
from serve_app.replica.said import Output, Said

SEED_STEP = 0x9E3779B97F4A7C15
"""2**64 over the golden ratio: seeds that differ by multiples of it are as good as unrelated (Steele et al., 2014)."""


class ContinuingLLM(AsyncLLM):
    """Does nothing of its own for a request that nobody wants to continue."""

    def generate(  # type: ignore[override]
        self, prompt: Any, sampling_params: SamplingParams, *args: Any, **kwargs: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        outputs = super().generate(prompt, sampling_params, *args, **kwargs)
        one = telling.get()
        if one is None:
            return outputs
        guided = sampling_params.structured_outputs is not None
        if not one.begin() or not _continuable(sampling_params) or (guided and self._reasons):
            one.stop()
        return _told(outputs, one)

    @property
    def _reasons(self) -> bool:
        """Whether answers may begin with reasoning, which no grammar holds for: where it ended vLLM does not say."""
        return bool(self.vllm_config.structured_outputs_config.reasoning_parser)

    async def _add_request(
        self, request: EngineCoreRequest, prompt: str | None, parent_req: Any, index: int, queue: RequestOutputCollector
    ) -> None:
        one = telling.get()
        said = one.said if one else None
        if said is None or not said.outputs:
            await super()._add_request(request, prompt, parent_req, index, queue)
            return
        self.check_admission(request_id=request.request_id)
        processor = self.output_processor
        processor.add_request(request, prompt, None, index, queue)
        state = processor.request_states[request.request_id]
        _give_first(queue, _replayed(state, said))
        if said.ended:
            processor._finish_request(state)
        else:
            await self.engine_core.add_request_async(_behind(request, said.tokens))


async def _told(outputs: AsyncGenerator[RequestOutput, None], one: Telling) -> AsyncGenerator[RequestOutput, None]:
    had = len(one.said.outputs) if one.said else 0
    async with aclosing(outputs):
        async for output in outputs:
            if had:
                had -= 1
            else:
                said = output.outputs[0]
                ended = (said.finish_reason or "", said.stop_reason) if output.finished else None
                one.tell(said.token_ids, ended, _logprobs(said) if said.logprobs else None)
            yield output


def _continuable(params: SamplingParams) -> bool:
    """Whether what comes next follows from the prompt and what was said, whichever of it was the prompt."""
    return (
        params.n == 1
        and params.output_kind is RequestOutputKind.DELTA
        and not params.presence_penalty
        and not params.frequency_penalty
        and not params.bad_words
        and not params.flat_logprobs
        and not params.extra_args
        and params.prompt_logprobs is None
        and params.thinking_token_budget is None
        and params.repetition_detection is None
        and not params.watermarking
    )


def _replayed(state: RequestState, said: Said) -> deque[RequestOutput]:
    """What was said, as the engine put it out; the state is then as it was."""
    assert state.detokenizer is not None
    interval, state.stream_interval = state.stream_interval, 1
    outputs = deque(_outputs(state, said))
    state.stream_interval = interval
    state.sent_tokens_offset = state.detokenizer.num_output_tokens()
    return outputs


def _outputs(state: RequestState, said: Said) -> Iterator[RequestOutput]:
    assert state.detokenizer is not None
    for one in said.outputs:
        tokens = list(one.tokens)
        finish, stop = one.ended or (None, None)
        state.is_prefilling = False
        # A stop string is part of the text; a token that stops is not, unless asked for.
        state.detokenizer.update(tokens, finish == "stop" and not isinstance(stop, str))
        _with_logprobs(state, one)
        reason = None if finish is None else FinishReason(FINISH_REASON_STRINGS.index(finish))
        output = state.make_request_output(tokens, None, reason, stop)
        assert isinstance(output, RequestOutput)
        yield output


def _logprobs(said: CompletionOutput) -> list[Any]:
    """Of each token: id, log probability, rank and text of itself and of those that were likelier."""
    return [
        [(token, one.logprob, one.rank, one.decoded_token) for token, one in position.items()]
        for position in said.logprobs or ()
    ]


def _with_logprobs(state: RequestState, said: Output) -> None:
    if said.logprobs and state.logprobs_processor and state.logprobs_processor.logprobs is not None:
        state.logprobs_processor.logprobs += [
            {token: Logprob(*rest) for token, *rest in position} for position in said.logprobs
        ]


def _give_first(queue: RequestOutputCollector, outputs: deque[RequestOutput]) -> None:
    """Each by itself, before what the engine puts in. `generate` asks `get_nowait` before it waits."""
    others = queue.get_nowait
    queue.get_nowait = lambda: outputs.popleft() if outputs else others()  # type: ignore[method-assign]


def _behind(request: EngineCoreRequest, said: list[int]) -> EngineCoreRequest:
    """The engine's request for what comes behind what was said."""
    assert request.prompt_token_ids is not None and request.sampling_params is not None
    params = request.sampling_params.clone()
    if params.max_tokens is not None:
        params.max_tokens -= len(said)
    params.min_tokens = max(0, params.min_tokens - len(said))
    if params.seed is not None:
        params.seed = (params.seed + SEED_STEP * len(said)) % 2**63
    if params.structured_outputs is not None:
        params.extra_args = {SAID_TOKENS: len(said)}
    more = copy(request)
    more.prompt_token_ids = [*request.prompt_token_ids, *said]
    more.sampling_params = params
    return more
