"""vLLM's own sampling parameters, through a request and back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from serve_app.offline.sampling_params import NAMES, fields

ASKED: dict[str, Any] = {
    "n": 2,
    "temperature": 0.7,
    "top_p": 0.9,
    "top_k": 5,
    "min_p": 0.1,
    "seed": 3,
    "max_tokens": 9,
    "min_tokens": 2,
    "stop": ["a"],
    "stop_token_ids": [4],
    "ignore_eos": True,
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "repetition_penalty": 1.1,
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
    "include_stop_str_in_output": True,
    "logit_bias": {5: 1.0},
    "allowed_token_ids": [6, 7],
    "bad_words": ["b"],
    "logprobs": 3,
    "prompt_logprobs": 2,
    "thinking_token_budget": 8,
    "watermarking": False,
    "routed_experts_prompt_start": 1,
    "extra_args": {"x": 1},
}
APART = {"structured_outputs", "repetition_detection", "logprob_token_ids"}


@pytest.mark.parametrize("chat", [True, False])
def test_what_is_set_of_vllms_object_is_set_again_behind_the_request(chat: bool) -> None:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest
    from vllm.sampling_params import RepetitionDetectionParams, SamplingParams, StructuredOutputsParams

    def behind(params: SamplingParams) -> SamplingParams:
        prompt = {"messages": [{"role": "user", "content": "a"}]} if chat else {"prompt": "a"}
        body = msgspec.json.encode(prompt | fields(params, chat))
        request = (ChatCompletionRequest if chat else CompletionRequest).model_validate_json(body)
        return request.to_sampling_params(request.max_tokens, {})

    assert ASKED.keys() | APART == set(NAMES), "the test names each of them"
    found = behind(SamplingParams(**ASKED))
    assert {name: getattr(found, name) for name in ASKED} == ASKED
    usual = SamplingParams(max_tokens=9)
    assert {name: getattr(behind(usual), name) for name in NAMES} == {name: getattr(usual, name) for name in NAMES}
    found = behind(
        SamplingParams(
            max_tokens=9,
            structured_outputs=StructuredOutputsParams(json={"type": "object"}, whitespace_pattern=" "),
            repetition_detection=RepetitionDetectionParams(max_pattern_size=3, min_count=2),
            logprob_token_ids=[5],
        )
    )
    assert (found.structured_outputs.json, found.structured_outputs.whitespace_pattern) == ({"type": "object"}, " ")
    assert (found.repetition_detection.max_pattern_size, found.repetition_detection.min_count) == (3, 2)
    assert found.logprob_token_ids == [5]
